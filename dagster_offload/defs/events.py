"""Reports the outbox to Dagster: each pending event becomes a materialization of its document's partition, in batches.

One `log_event` costs 13-25 ms on Postgres, because it opens a connection. A batch of 100 costs half a millisecond per
event and keeps the run id, which `report_runless_asset_event` loses. Dagster has no public method for batches, so
`_store_batch` calls the internal `store_event_batch`; a contract test covers it. No event is stored without a partition,
because backfills fail on one (dagster PR 33035).
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_offload.defs.names import RECIPE_TAG, RESULT_TAG, step_of
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import PendingEvent
from dagster_offload.ledger.work import outbox
from dagster_offload.ledger.work.outbox import PREVIEW_CHARACTERS
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import code_versions, recipes, stage_graph
from dagster_offload.stages.graph import EXTRACT, StageGraph, asset_name
from dagster_offload.text.plain_text import cleaned, escaped, escaped_json, shortened

try:
    from dagster._core.events import StepMaterializationData
except ImportError:  # another version of Dagster: use the slower public method
    StepMaterializationData = None  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)

# A drain's events alternate between two assets, and a batch holds one asset, so more events are read than fit one batch.
# The engine's event loop lags 40 ms with batches of 100, and 170 ms with batches of 500.
PENDING = 300
BATCH = 100
MOST_FIELDS_SHOWN = 30  # of an own stage's record
CHECK_EVERY_SECONDS = 1.0
# Per second, while the slot works. Reporting and sending calls compete for Python's time, and the slot must not wait. At
# hundreds of calls per second some events remain; they are reported after the work.
REPORTING_SHARE_SECONDS = 0.1
OTHER_FLUSHER_PATIENCE_SECONDS = 60.0

DATA_VERSION_TAG = "dagster/data_version"
CODE_VERSION_TAG = "dagster/code_version"
IS_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"


@dataclass(frozen=True)
class StageFacts:
    """What an event says of its stage: what it needs, and the recipe and the code version of today."""

    graph: StageGraph
    recipes: Mapping[str, str]
    code_versions: Mapping[str, str]


@dataclass(frozen=True)
class EventReporter:
    """Reports the ledger's finished work items to Dagster.

    `run_id` is the run it works in, and `log_event` is that run's method to record an event. Both are None in a sensor.
    Unless the setting `previews` is off, events contain the beginning of a text, and the fields of a record.
    """

    instance: dg.DagsterInstance
    ledger: Ledger
    asset_keys: Mapping[str, dg.AssetKey]
    settings: Settings
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
        """A reporter that records under the run of this step."""
        return cls(
            instance=context.instance,
            ledger=ledger,
            asset_keys=asset_keys,
            settings=settings,
            run_id=context.run.run_id,
            log_event=context.log_event,
        )

    def report(self, seconds: float | None = None) -> int | None:
        """Report pending events, oldest first, for at most about `seconds` (None: until none is pending).

        Returns the number of reported events, or None if another process is reporting.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        reported = 0
        with outbox.flushing(self.ledger) as has_lock:
            if not has_lock:
                return None
            # Events that were read are always reported, even after the deadline.
            while events := self.ledger.run(
                outbox.pending_events, list(self.asset_keys), PENDING if seconds is None else BATCH
            ):
                for group in _by_asset_and_run(events, list(self.asset_keys)):
                    self._store([event for event in group if not self._is_stored(event)])
                    self.ledger.run(outbox.mark_reported, [event.event_id for event in group])
                reported += len(events)
                if deadline is not None and time.monotonic() > deadline:
                    break
        return reported

    def report_all(self) -> None:
        """Return when no event is pending. Gives up if another process reports and makes no progress for a minute."""
        left, patience_ends = None, time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
        while self.report() is None:
            before, left = left, self.ledger.run(outbox.count_pending)
            if left == 0:
                return
            if left != before:
                patience_ends = time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
            if time.monotonic() > patience_ends:
                logger.warning(
                    "another process holds %s events and makes no progress; the next run or sensor tick reports them",
                    left,
                )
                return
            time.sleep(0.1)

    def _is_stored(self, event: PendingEvent) -> bool:
        """Whether Dagster has the event already. Queries Dagster only for events in doubt: a crash interrupted their report."""
        if not event.is_in_doubt:
            return False
        wanted = dg.AssetRecordsFilter(asset_key=self.asset_keys[event.stage], asset_partitions=[event.document])
        for record in self.instance.fetch_materializations(wanted, limit=25).records:
            stored = record.asset_materialization
            is_same_run = event.run_id in (None, record.run_id)
            # A correction is another event of the same result.
            wanted_tags = {RESULT_TAG: str(event.result_id), DATA_VERSION_TAG: event.data_version}
            if is_same_run and stored is not None and wanted_tags.items() <= (stored.tags or {}).items():
                return True
        return False

    def _store(self, events: list[PendingEvent]) -> None:
        """Store events of one asset and one run. Events without a run (a scan found a renamed file) go to this run."""
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
        """The run's job; None without a run or if the run was deleted. Its events are then stored without a run."""
        if run_id is None:
            return None
        if run_id not in self._jobs:
            run = self.instance.get_run_by_id(run_id)
            self._jobs[run_id] = None if run is None else run.job_name
        return self._jobs[run_id]

    def _materialization(self, event: PendingEvent) -> dg.AssetMaterialization:
        return materialization(
            event, self.asset_keys, self._stages, self.settings.library, previews=self.settings.previews == "on"
        )

    @cached_property
    def _stages(self) -> "StageFacts":
        return StageFacts(stage_graph(self.settings), recipes(self.settings), code_versions(self.settings))


@contextmanager
def reporting(reporter: EventReporter) -> Iterator[None]:
    """Report from a thread during the block, so that documents appear in the UI one by one."""
    stop = threading.Event()

    def report_until_stopped() -> None:
        while not stop.wait(CHECK_EVERY_SECONDS):
            try:
                reporter.report(REPORTING_SHARE_SECONDS)
            except Exception:  # the end of the step reports again, and raises there
                logger.exception("cannot report finished documents to Dagster; trying again")

    thread = threading.Thread(target=report_until_stopped, name="report-to-dagster", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _by_asset_and_run(events: list[PendingEvent], stages: Sequence[str]) -> list[list[PendingEvent]]:
    """Batches, each of one asset and one run, upstream assets first."""
    groups: dict[tuple[int, str | None], list[PendingEvent]] = {}
    for event in events:
        groups.setdefault((stages.index(event.stage), event.run_id), []).append(event)
    in_order = [group for _, group in sorted(groups.items(), key=lambda entry: entry[0][0])]
    return [group[start : start + BATCH] for group in in_order for start in range(0, len(group), BATCH)]


def materialization(
    event: PendingEvent,
    asset_keys: Mapping[str, dg.AssetKey],
    stages: "StageFacts",
    library: Path | None,
    *,
    previews: bool = True,
) -> dg.AssetMaterialization:
    """The materialization of one finished work item. Without `previews`, it contains no text of a document or its record."""
    is_current = stages.recipes.get(event.stage) == event.recipe
    tags = {
        RESULT_TAG: str(event.result_id),
        RECIPE_TAG: event.recipe,
        DATA_VERSION_TAG: event.data_version,
        IS_USER_PROVIDED_TAG: "true",
        # A result of another recipe carries that recipe, so the UI shows it as outdated, as the ledger does.
        CODE_VERSION_TAG: stages.code_versions[event.stage] if is_current else event.recipe,
    }
    for upstream in stages.graph.node(event.stage).needs:
        # Shows that the upstream was read. The ledger, not Dagster, detects a later change and processes the item again.
        name = asset_keys[upstream].to_user_string()
        tags |= {f"dagster/input_data_version/{name}": "UNKNOWN", f"dagster/input_event_pointer/{name}": "NULL"}
    return dg.AssetMaterialization(
        asset_keys[event.stage],
        partition=event.document,
        tags=tags,
        metadata=_metadata(event, library, previews=previews),
    )


def _metadata(event: PendingEvent, library: Path | None, *, previews: bool) -> dict[str, dg.MetadataValue]:
    value = event.value or {}
    shown: dict[str, str | int | float | None] = {
        "outcome": event.outcome,
        "category": value.get("category"),
        "confidence": value.get("confidence"),
        "title": value.get("title") if previews else None,
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
    if preview and previews:
        metadata["preview"] = dg.MetadataValue.text(cleaned(str(preview)))
    if value.get("key_points") and previews:
        metadata["key_points"] = dg.MetadataValue.json([escaped(str(point)) for point in value["key_points"]])
    if value.get("doubtful"):
        metadata["doubtful"] = dg.MetadataValue.text(", ".join(escaped(str(mark)) for mark in value["doubtful"]))
    if event.corrected:
        metadata["corrected"] = dg.MetadataValue.text(f"by a person: {escaped(', '.join(event.corrected))}")
    metadata["path"] = dg.MetadataValue.path(
        escaped(event.document if library is None else str(library / event.document))
    )
    metadata |= {name: _as_metadata(entry) for name, entry in shown.items() if entry is not None}
    return metadata | (_own_fields(event.stage, value, metadata) if previews else {})


def _own_fields(
    stage: str, value: Mapping[str, Any], shown: Mapping[str, dg.MetadataValue]
) -> dict[str, dg.MetadataValue]:
    """The fields of an own stage's record that are not `shown`. The built-in stages' records are shown above."""
    if asset_name(stage) != stage:
        return {}
    fields: dict[str, dg.MetadataValue] = {}
    for name, entry in [each for each in value.items() if each[0] not in shown][:MOST_FIELDS_SHOWN]:
        if isinstance(entry, (dict, list)):
            fields[name] = dg.MetadataValue.json(json.loads(escaped_json(json.dumps(entry, ensure_ascii=False))))
        elif isinstance(entry, bool):
            fields[name] = dg.MetadataValue.bool(entry)
        elif entry is not None:
            fields[name] = _as_metadata(entry if not isinstance(entry, str) else shortened(entry, PREVIEW_CHARACTERS))
    return fields


def _as_metadata(value: str | int | float) -> dg.MetadataValue:
    if isinstance(value, str):
        return dg.MetadataValue.text(escaped(value))
    return dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(float(value))


def can_store_batches(instance: dg.DagsterInstance) -> bool:
    """Whether this version of Dagster has the internal call that stores a batch."""
    return StepMaterializationData is not None and hasattr(instance.event_log_storage, "store_event_batch")


def _store_batch(instance: dg.DagsterInstance, entries: list[dg.EventLogEntry]) -> None:
    """The internal call. All entries must be of one asset: the storage records only the last one as its latest."""
    instance.event_log_storage.store_event_batch(entries)


def _entry(
    run_id: str, job_name: str, event: PendingEvent, materialization: dg.AssetMaterialization
) -> dg.EventLogEntry:
    """The entry that `log_event` would store."""
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
