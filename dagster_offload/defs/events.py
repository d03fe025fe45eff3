"""Reports the outbox to Dagster: each pending event becomes an event of its document's partition, in batches. A result is a
materialization; a work item that is deferred, failed or quarantined is an observation.

One `log_event` costs 13-25 ms on Postgres, because it opens a connection. A batch of 100 costs half a millisecond per
event and keeps the run id, which `report_runless_asset_event` loses. Dagster has no public method for batches, so `store`
calls the internal `store_event_batch`; a contract test covers it. No event is stored without a partition, because backfills
fail on one (dagster PR 33035).
"""

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.events import AssetObservationData, StepMaterializationData

from dagster_offload.defs.names import OBSERVATION_TAG, RESULT_TAG, Names
from dagster_offload.defs.partitions.events import report_partitions
from dagster_offload.defs.shown.documents import DATA_VERSION_TAG, StageFacts, materialization, observation
from dagster_offload.defs.shown.records import record_markdown
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import PendingEvent, PendingObservation
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.reports.records import answers_of
from dagster_offload.records.columns import Column, columns
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import code_versions, recipes, stage_graph
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

logger = logging.getLogger(__name__)

Pending = PendingEvent | PendingObservation
Answers = Mapping[str, Mapping[str, Any]]  # by stage
Reported = dg.AssetMaterialization | dg.AssetObservation

# The engine's event loop lags 40 ms with batches of 100, and 170 ms with batches of 500.
BATCH = 100
# A drain's events alternate between two assets, and a batch holds one asset, so events for two batches are read.
PENDING = 2 * BATCH
CHECK_EVERY_SECONDS = 1.0
# Per second, while the slot works. Reporting and sending calls compete for Python's time, and the slot must not wait. At
# hundreds of calls per second some events remain; they are reported after the work.
REPORTING_SHARE_SECONDS = 0.1
OTHER_FLUSHER_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class EventReporter:
    """Reports the ledger's finished work items to Dagster.

    `run_id` is the run it works in, None in a sensor. Unless the setting `previews` is off, events contain the beginning of a
    text, and the fields of a record.
    """

    instance: dg.DagsterInstance
    ledger: Ledger
    names: Names
    settings: Settings
    run_id: str | None = None
    _jobs: dict[str, str | None] = field(default_factory=dict)  # run id -> job name

    @classmethod
    def in_step(
        cls,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        settings: Settings,
        ledger: Ledger,
        names: Names,
    ) -> "EventReporter":
        """A reporter that records under the run of this step."""
        return cls(
            instance=context.instance,
            ledger=ledger,
            names=names,
            settings=settings,
            run_id=context.run.run_id,
        )

    def report(self, seconds: float | None = None) -> int | None:
        """Report pending events, oldest first, for at most about `seconds` (None: until none is pending).

        Returns the number of reported events, or None if another process is reporting or gives documents other partitions.
        """
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        with outbox.flushing(self.ledger) as has_lock:
            if not has_lock:
                return None
            now = self.ledger.run(assigning.in_force)
            if not now.is_complete:  # the next scan completes it
                return None
            if now.rule.is_grouped:
                return report_partitions(self, deadline)
            return self._report_documents(deadline)

    def _report_documents(self, deadline: float) -> int:
        """Report pending events until the monotonic clock reaches `deadline`. The caller must hold the flusher's lock."""
        reported = 0
        # Events that were read are always reported, even after the deadline.
        while events := self.ledger.run(outbox.pending_events, self.reportable, PENDING):
            for group in _by_asset_and_run(events, list(self.names.keys)):
                self._store([event for event in group if not self._is_stored(event)])
                self.ledger.run(outbox.mark_reported, [event.event_id for event in group])
            reported += len(events)
            if time.monotonic() > deadline:
                break
        return reported

    def report_all(self) -> None:
        """Return when no event is pending.

        Gives up if another process reports and makes no progress for a minute, and at once during a change of the partitions:
        it takes as long as there are documents, and the scan that completes it reports.
        """
        left, patience_ends = None, time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
        while self.report() is None:
            if not self.ledger.run(assigning.in_force).is_complete:
                logger.info(
                    "a scan is changing the partitions (OFFLOAD_PARTITION_BY), and reports this work afterwards"
                )
                return
            before, left = left, self.ledger.run(outbox.count_pending)
            if left == 0:
                return
            if left != before:
                patience_ends = time.monotonic() + OTHER_FLUSHER_PATIENCE_SECONDS
            if time.monotonic() > patience_ends:
                logger.warning(
                    "%s events are not reported yet: another process reports them. What it leaves is reported by the next run "
                    "or sensor tick",
                    left,
                )
                return
            time.sleep(0.1)

    def _is_stored(self, event: Pending) -> bool:
        """Whether Dagster has the event already. Queries Dagster only for events in doubt: a crash interrupted their report."""
        if not event.is_in_doubt:
            return False
        wanted = dg.AssetRecordsFilter(asset_key=self.names.keys[event.stage], asset_partitions=[event.document])
        stored: list[tuple[str, Reported | None]]
        if isinstance(event, PendingObservation):
            tags = {OBSERVATION_TAG: str(event.event_id)}
            observed = self.instance.fetch_observations(wanted, limit=25)
            stored = [(record.run_id, record.asset_observation) for record in observed.records]
        else:
            # A correction is another event of the same result.
            tags = {RESULT_TAG: str(event.result_id), DATA_VERSION_TAG: event.data_version}
            made = self.instance.fetch_materializations(wanted, limit=25)
            stored = [(record.run_id, record.asset_materialization) for record in made.records]
        return any(
            event.run_id in (None, run_id) and each is not None and tags.items() <= (each.tags or {}).items()
            for run_id, each in stored
        )

    def _store(self, events: list[Pending]) -> None:
        """Store events of one asset, one run and one kind."""
        if events:
            shown = self._all_shown(events)
            messages = [_message(event) for event in events]
            self.store(events[0].run_id, list(zip(messages, shown, strict=True)))

    def store(self, run_id: str | None, events: Sequence[tuple[str, Reported]]) -> None:
        """Store events of one asset under a run, each with its line in the run's log. At least one.

        Those without a run (a scan found a renamed file) go to this run. The storage records only the last event of a batch as
        the asset's latest, so a batch must not mix assets.
        """
        run_id = run_id or self.run_id
        job_name = self._job_name(run_id)
        if run_id is None or job_name is None:
            for _, shown in events:
                self.instance.report_runless_asset_event(shown)
            return
        step_key = self.names.step_of(job_name)
        entries = [_entry(run_id, job_name, step_key, message, shown) for message, shown in events]
        self.instance.event_log_storage.store_event_batch(entries)

    def _job_name(self, run_id: str | None) -> str | None:
        """The run's job; None without a run or if the run was deleted. Its events are then stored without a run."""
        if run_id is None:
            return None
        if run_id not in self._jobs:
            run = self.instance.get_run_by_id(run_id)
            self._jobs[run_id] = None if run is None else run.job_name
        return self._jobs[run_id]

    def _all_shown(self, events: Sequence[Pending]) -> list[Reported]:
        found = self._answers_of(events)
        return [self._shown(event, found.get(event.document)) for event in events]

    def _answers_of(self, events: Sequence[Pending]) -> Mapping[str, Answers]:
        """The answers about the documents of events of an LLM stage, by document; empty if they are not shown."""
        answered = [event.document for event in events if isinstance(event, PendingEvent) and event.stage != EXTRACT]
        if not answered or self.settings.previews == "off":
            return {}
        return self.ledger.run(answers_of, answered)

    def _shown(self, event: Pending, answers: Answers | None) -> Reported:
        if isinstance(event, PendingObservation):
            return observation(event, self.names.keys)
        return materialization(
            event,
            self.names.keys,
            self.stages,
            self.settings.library,
            previews=self.settings.previews == "on",
            record=None if answers is None else record_markdown(answers, self.columns),
        )

    @cached_property
    def reportable(self) -> list[str]:
        """The stages that both the definitions and the settings of this process have.

        After an edit of the pipeline, one of the two may be older. Events of other stages stay pending until a process
        with the edited pipeline reports them.
        """
        graph, keys = self.stages.graph, self.names.keys
        return [
            stage for stage in keys if stage in graph.names and all(need in keys for need in graph.node(stage).needs)
        ]

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of a record."""
        return columns(self.settings)

    @cached_property
    def stages(self) -> StageFacts:
        """What the events say of the stages."""
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


def _by_asset_and_run(events: list[Pending], stages: Sequence[str]) -> list[list[Pending]]:
    """Batches, each of one asset, one run and one kind, upstream assets first."""
    groups: dict[tuple[int, str | None, bool], list[Pending]] = {}
    for event in events:
        key = (stages.index(event.stage), event.run_id, isinstance(event, PendingObservation))
        groups.setdefault(key, []).append(event)
    in_order = [group for _, group in sorted(groups.items(), key=lambda entry: entry[0][0])]
    return [group[start : start + BATCH] for group in in_order for start in range(0, len(group), BATCH)]


def _message(event: Pending) -> str:
    state = event.state if isinstance(event, PendingObservation) else "done"
    return f"{escaped(event.document)}: {event.stage} is {state}."


def _entry(run_id: str, job_name: str, step_key: str, message: str, shown: Reported) -> dg.EventLogEntry:
    """The entry that `log_event` would store."""
    data: StepMaterializationData | AssetObservationData
    if isinstance(shown, dg.AssetObservation):
        kind, data = dg.DagsterEventType.ASSET_OBSERVATION, AssetObservationData(shown)
    else:
        kind, data = dg.DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(shown)
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.DEBUG,
        user_message=message,
        run_id=run_id,
        timestamp=time.time(),
        step_key=step_key,
        job_name=job_name,
        dagster_event=dg.DagsterEvent(
            event_type_value=kind.value,
            job_name=job_name,
            event_specific_data=data,
            message=message,
            pid=os.getpid(),
            step_key=step_key,
        ),
    )
