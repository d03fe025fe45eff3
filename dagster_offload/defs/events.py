"""The outbox to Dagster: each pending event becomes a materialization of its document's partition, in batches.

One `log_event` costs 13-25 ms on Postgres (a connection each); a batch of 100 costs half a millisecond an event and
keeps the run id, which `report_runless_asset_event` loses. Batches have no public way in, so the one internal call of
this project, `store_event_batch`, sits in `_store_batch`, held by a contract test. An event is never stored without a
partition: backfills fail on one (dagster PR 33035).
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from dagster_offload.defs.names import CODE_VERSIONS, RECIPE_TAG, RESULT_TAG, step_of
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import PendingEvent
from dagster_offload.ledger.work import outbox
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import EXTRACT, STAGE_NAMES, UPSTREAM
from dagster_offload.text.plain_text import cleaned, escaped

try:
    from dagster._core.events import StepMaterializationData
except ImportError:  # another Dagster: every event goes the public way, slower
    StepMaterializationData = None  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)

# A drain's events alternate between two assets, and a batch holds one asset. At 100 a batch the engine's loop lags 40 ms,
# at 500 it lags 170.
PENDING = 300
BATCH = 100
CHECK_EVERY_SECONDS = 1.0
# Of each second beside a working slot: telling is Python's work as sending calls is, and a slot must not wait for it.
# What it does not get told meanwhile (at hundreds of calls a second) is told when the work is done.
REPORTING_SHARE_SECONDS = 0.1
OTHER_FLUSHER_PATIENCE_SECONDS = 60.0

DATA_VERSION_TAG = "dagster/data_version"
CODE_VERSION_TAG = "dagster/code_version"
IS_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"


@dataclass(frozen=True)
class EventReporter:
    """Tells Dagster what the ledger has finished.

    `run_id` is the run it works in and `log_event` that run's own way to record (None in a sensor).
    """

    instance: dg.DagsterInstance
    ledger: Ledger
    asset_keys: Mapping[str, dg.AssetKey]
    recipes: Mapping[str, str]
    library: Path | None = None
    run_id: str | None = None
    log_event: Callable[[dg.AssetMaterialization], None] | None = None
    _jobs: dict[str, str | None] = field(default_factory=dict)  # run id -> job name

    @classmethod
    def in_step(
        cls,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        settings: Settings,
        ledger: Ledger,
        asset_keys: Mapping[str, dg.AssetKey],
    ) -> "EventReporter":
        return cls(
            instance=context.instance,
            ledger=ledger,
            asset_keys=asset_keys,
            recipes=recipes(settings),
            library=settings.library,
            run_id=context.run.run_id,
            log_event=context.log_event,
        )

    def tell(self, seconds: float | None = None) -> int | None:
        """Tell what is pending, oldest first, for at most about `seconds`; None where another flusher is at it."""
        deadline = None if seconds is None else time.monotonic() + seconds
        told = 0
        with outbox.flushing(self.ledger) as is_ours:
            if not is_ours:
                return None
            # What is picked is told, however long it takes.
            while events := self.ledger.run(outbox.pending_events, PENDING if seconds is None else BATCH):
                for group in _by_asset_and_run(events):
                    self._store([event for event in group if not self._stands_already(event)])
                    self.ledger.run(outbox.mark_reported, [event.event_id for event in group])
                told += len(events)
                if deadline is not None and time.monotonic() > deadline:
                    break
        return told

    def report_all(self) -> None:
        """Return once nothing is pending, be it told here or by another flusher; gives up when nothing moves for a minute."""
        left, patience_ends = None, time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
        while self.tell() is None:
            before, left = left, self.ledger.run(outbox.count_pending)
            if left == 0:
                return
            if left != before:
                patience_ends = time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
            if time.monotonic() > patience_ends:
                logger.warning("another flusher holds %s events and does not move; the next door tells them", left)
                return
            time.sleep(0.1)

    def _stands_already(self, event: PendingEvent) -> bool:
        """Whether an event that may have been stored before a crash was. Asked of Dagster only for those in doubt."""
        if not event.is_in_doubt:
            return False
        wanted = dg.AssetRecordsFilter(asset_key=self.asset_keys[event.stage], asset_partitions=[event.document])
        for record in self.instance.fetch_materializations(wanted, limit=25).records:
            found = record.asset_materialization
            is_same_run = event.run_id in (None, record.run_id)
            if is_same_run and found is not None and (found.tags or {}).get(RESULT_TAG) == str(event.result_id):
                return True
        return False

    def _store(self, events: list[PendingEvent]) -> None:
        """Store events of one asset and one run. What no run made (a renamed file found by a scan) stands under ours."""
        if not events:
            return
        run_id = events[0].run_id or self.run_id
        job_name = self._job_name(run_id)
        if run_id is not None and job_name is not None and can_store_batches(self.instance):
            entries = [_entry(run_id, job_name, event, self._materialization(event)) for event in events]
            _store_batch(self.instance, entries)
            return
        for event in events:
            materialization = self._materialization(event)
            if run_id == self.run_id and self.log_event is not None:
                self.log_event(materialization)
            else:
                self.instance.report_runless_asset_event(materialization)

    def _job_name(self, run_id: str | None) -> str | None:
        """None without a run, and for a run that was deleted: its events then belong to no run."""
        if run_id is None:
            return None
        if run_id not in self._jobs:
            run = self.instance.get_run_by_id(run_id)
            self._jobs[run_id] = None if run is None else run.job_name
        return self._jobs[run_id]

    def _materialization(self, event: PendingEvent) -> dg.AssetMaterialization:
        return materialization(event, self.asset_keys, self.recipes, self.library)


@contextmanager
def reporting(reporter: EventReporter) -> Iterator[None]:
    """Tell Dagster from a thread while the block works, so that people see documents appear one by one."""
    stop = threading.Event()

    def report_until_stopped() -> None:
        while not stop.wait(CHECK_EVERY_SECONDS):
            try:
                reporter.tell(REPORTING_SHARE_SECONDS)
            except Exception:  # whatever it is: the end of the step tells again, and raises there
                logger.exception("could not tell Dagster of finished documents; trying again")

    thread = threading.Thread(target=report_until_stopped, name="tell-dagster", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _by_asset_and_run(events: list[PendingEvent]) -> list[list[PendingEvent]]:
    """Batches of one asset and one run each, upstream first."""
    groups: dict[tuple[int, str | None], list[PendingEvent]] = {}
    for event in events:
        groups.setdefault((STAGE_NAMES.index(event.stage), event.run_id), []).append(event)
    in_order = [group for _, group in sorted(groups.items(), key=lambda entry: entry[0][0])]
    return [group[start : start + BATCH] for group in in_order for start in range(0, len(group), BATCH)]


def materialization(
    event: PendingEvent,
    asset_keys: Mapping[str, dg.AssetKey],
    recipes: Mapping[str, str],
    library: Path | None,
) -> dg.AssetMaterialization:
    """One finished work item as Dagster shows it."""
    is_current = recipes.get(event.stage) == event.recipe
    tags = {
        RESULT_TAG: str(event.result_id),
        RECIPE_TAG: event.recipe,
        DATA_VERSION_TAG: event.output_digest,
        IS_USER_PROVIDED_TAG: "true",
        # A result of another recipe carries that recipe's name: the UI then says what the ledger says, outdated.
        CODE_VERSION_TAG: CODE_VERSIONS[event.stage] if is_current else event.recipe,
    }
    upstream = UPSTREAM[event.stage]
    if upstream is not None:
        # Says that the upstream was read. Whether it changed since is the ledger's to know: it then does the item anew.
        name = asset_keys[upstream].to_user_string()
        tags |= {f"dagster/input_data_version/{name}": "UNKNOWN", f"dagster/input_event_pointer/{name}": "NULL"}
    return dg.AssetMaterialization(
        asset_keys[event.stage], partition=event.document, tags=tags, metadata=_metadata(event, library)
    )


def _metadata(event: PendingEvent, library: Path | None) -> dict[str, dg.MetadataValue]:
    value = event.value or {}
    shown: dict[str, str | int | float | None] = {
        "outcome": event.outcome,
        "category": value.get("category"),
        "confidence": value.get("confidence"),
        "title": value.get("title"),
        "language": value.get("language"),
        "parts": value.get("parts"),
        "parts_read": value.get("parts_read"),
        "characters": event.text_length if event.stage == EXTRACT else None,
        "served_model": event.served_model,
        "model_evidence": event.model_evidence,
        "slot": event.slot,
        "tokens_in": event.tokens_in,
        "tokens_out": event.tokens_out,
        "tokens_cached": event.tokens_cached,
        "seconds": None if event.seconds is None else round(event.seconds, 3),
        "attempts": event.attempts,
        "deferrals": event.deferrals,
        "result": event.result_id,
        "reused_from": event.reused_from,
    }
    metadata: dict[str, dg.MetadataValue] = {}
    preview = value.get("summary") or event.text_preview
    if preview:
        metadata["preview"] = dg.MetadataValue.text(cleaned(str(preview)))
    if value.get("key_points"):
        metadata["key_points"] = dg.MetadataValue.json([escaped(str(point)) for point in value["key_points"]])
    metadata["path"] = dg.MetadataValue.path(
        escaped(event.document if library is None else str(library / event.document))
    )
    metadata |= {name: _as_metadata(entry) for name, entry in shown.items() if entry is not None}
    return metadata


def _as_metadata(value: str | int | float) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(escaped(value))
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))


def can_store_batches(instance: dg.DagsterInstance) -> bool:
    return StepMaterializationData is not None and hasattr(instance.event_log_storage, "store_event_batch")


def _store_batch(instance: dg.DagsterInstance, entries: list[dg.EventLogEntry]) -> None:
    """The one internal call. All entries are of one asset: the storage notes only the last one as its latest."""
    instance.event_log_storage.store_event_batch(entries)


def _entry(
    run_id: str, job_name: str, event: PendingEvent, materialization: dg.AssetMaterialization
) -> dg.EventLogEntry:
    """The entry that `log_event` would have stored."""
    message = f"{escaped(event.document)}: {event.stage} is done."
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.DEBUG,
        user_message=message,
        run_id=run_id,
        timestamp=time.time(),
        step_key=step_of(job_name),
        job_name=job_name,
        dagster_event=dg.DagsterEvent(
            event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
            job_name=job_name,
            event_specific_data=StepMaterializationData(materialization),
            message=message,
            pid=os.getpid(),
            step_key=step_of(job_name),
        ),
    )
