"""Job `scan`: update the ledger and the partitions, then extract text. `library_sensor`: launch it when files differ."""

import json
import math
import time
from dataclasses import asdict, dataclass

import dagster as dg
from pydantic import Field

from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.history import keep_small
from dagster_offload.defs.names import SCAN_STEP, WHY_TAG, Names
from dagster_offload.defs.partitions.keys import PartitionChanges, update_partitions
from dagster_offload.defs.progress import progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import of_location, request_tags, seconds_since, starting_run, tag_run
from dagster_offload.defs.shown.overview import SECONDS_BETWEEN_TICKS, needs_report, report_overview
from dagster_offload.defs.shown.problems import evaluate_problems, name_problems
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.library_look import LibraryLook
from dagster_offload.engine.partitions import why_to_scan
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import library_differs, scan
from dagster_offload.engine.scan_report import ScanReport, ScanSummary
from dagster_offload.errors import LedgerUnavailable, NoRoom, OffloadError, OtherPipeline, ScanRefused, StillLooking
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.database import Ledger, notify
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.activity import FAILED_SCAN_MESSAGE, SAME_FAILURE_SECONDS
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, documents
from dagster_offload.library.left_out import Kind, describe_count
from dagster_offload.library.partition_keys import MOST_PARTITIONS, By
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.plain_text import escaped

# The wait after a scan that never began, for example because the code server was away: the files are not the reason.
NEVER_BEGAN_SECONDS = 30.0
WAITING_NAMED = 100  # how many of the documents that wait for their text the summary names
# How long a scan and a tick may remove old history. What is left is removed by the next one.
SCAN_UPKEEP_SECONDS = 30.0
TICK_UPKEEP_SECONDS = 5.0
LONGEST_WAIT_SECONDS = 20.0  # of a tick, for a look at the library: Dagster ends ticks that take a minute
# The sensor's clock and the daemon's differ by the time of a call to the code server.
TICK_TOLERANCE_SECONDS = 1.0


class ScanConfig(dg.Config):
    """What a person confirms."""

    accept_vanished: bool = Field(
        default=False, description="Many or all documents were deleted, or the library has moved."
    )
    forget_slot: str | None = Field(
        default=None, description="The slot of this name was removed on purpose: forget it."
    )


def build_scan_job(names: Names, partitions_name: str, resource: dg.ResourceDefinition) -> dg.JobDefinition:
    """The job that scans the library."""

    @dg.op(
        name=names.of(SCAN_STEP),
        out=dg.Out(ScanSummary, description="Summary: numbers of documents.", io_manager_key="summaries"),
        description="Compares the library with the ledger, updates the partitions, extracts the text of new documents.",
    )
    def scan_library(
        context: dg.OpExecutionContext, config: ScanConfig, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> ScanSummary:
        with failures_as_messages():
            settings = deep_slot.settings()
            tag_run(context)
            with deep_slot.ledger() as ledger:
                if config.forget_slot is not None:
                    _forget(context, settings, ledger, config.forget_slot)
                run = _ScanRun(context, settings, ledger, names, partitions_name)
                return run.work(accept_vanished=config.accept_vanished)

    @dg.job(
        name=names.scan_job,
        description="Scans the whole library for new, changed and removed documents, then extracts their text.",
        executor_def=dg.in_process_executor,
        resource_defs={"deep_slot": resource, "summaries": dg.mem_io_manager},
    )
    def scan_job() -> None:
        scan_library()

    return scan_job


@dataclass(frozen=True)
class _ScanRun:
    """One run of the job `scan`."""

    context: dg.OpExecutionContext
    settings: Settings
    ledger: Ledger
    names: Names
    partitions_name: str

    def work(self, *, accept_vanished: bool) -> ScanSummary:
        """Scan, extract, show the result in Dagster, and return the summary."""
        for slot in self.settings.slots:
            if slot.key_problem is None:  # a scan sends nothing to it
                self.ledger.run(slots.register, slot)
        report = self._scan(accept_vanished=accept_vanished)
        extracted = self._extract()
        if extracted.machine_fault is not None:
            self.context.log.warning(f"some documents still wait for extraction: {extracted.machine_fault}")
        waiting = self.ledger.run(documents.waiting_for_text, WAITING_NAMED)
        summary = ScanSummary(
            **vars(report),
            extracted=extracted.done,
            extraction_failed=extracted.failed,
            extraction_waiting=waiting.count,
            extraction_to_retry=waiting.reasons,
            machine_fault=extracted.machine_fault or "",
        )
        self._show(summary)
        keep_small(self.settings, self.ledger, lambda: self.context.instance, SCAN_UPKEEP_SECONDS)
        return summary

    def _scan(self, *, accept_vanished: bool) -> ScanReport:
        found = scan(self.settings, self.ledger, accept_vanished=accept_vanished, run_id=self.context.run.run_id)
        rule = self.settings.partition_rule
        changes = update_partitions(self.context.instance, self.ledger, self.names, self.partitions_name, rule)
        _log(self.context, found, changes)
        return found

    def _extract(self) -> ProgressCounts:
        reporter = EventReporter.in_step(self.context, self.settings, self.ledger, self.names)
        with reporting(reporter):
            extracted = run_extraction(
                self.settings,
                self.ledger,
                run_id=self.context.run.run_id,
                on_progress=progress(self.context),
                look_for_files=self._look_for_files,
            )
        reporter.report_all()
        return extracted

    def _look_for_files(self) -> None:
        """Add new files while OCR reads pages, which may take days."""
        try:
            if library_differs(self.settings, self.ledger) is not None:
                self._scan(accept_vanished=False)
        except (ScanRefused, NoRoom, OtherPipeline) as refused:
            self.context.log.warning(f"new files are not added: {escaped(str(refused))}")

    def _show(self, summary: ScanSummary) -> None:
        found = self.ledger.run(status.problems_of_run, self.context.run.run_id)
        evaluate_problems(self.context.instance, self.ledger, self.names.keys)
        report_overview(self.context.instance, self.ledger, self.names.keys, self.settings)
        self.context.add_output_metadata({**name_problems(self.context.log, found), **asdict(summary)})


def _forget(context: dg.OpExecutionContext, settings: Settings, ledger: Ledger, name: str) -> None:
    """Forget a slot that a person has removed. One that is still configured is left as it is: it would be added again."""
    if any(slot.name == name for slot in settings.slots):
        context.log.warning(f"the slot {name} is still configured: remove it from the configuration to forget it")
    elif not ledger.run(slots.forget, name):
        context.log.warning(f"this ledger has no slot {escaped(name)}: nothing to forget")


def _log(context: dg.OpExecutionContext, report: ScanReport, changes: PartitionChanges) -> None:
    context.log.info(
        f"{counted(report.found, 'document')}: {report.added} new, {report.changed} changed, {report.returned} returned, "
        f"{report.vanished} gone; partitions: {changes.added} added, {changes.removed} removed"
    )
    if changes.rule.by is By.FOLDER and changes.rule.number is not None:
        context.log.warning(_fewer_levels(changes.rule.number))
    for name, reason in report.unusable_names.items():
        context.log.warning(f"unusable_name {name}: {reason}")
    for name, reason in report.unreadable_folders.items():
        context.log.warning(f"folder not read: {escaped(name)}: {reason}")
    for kind, left in report.left_out.items():
        more = ", ..." if left.count > len(left.names) else ""
        context.log.info(f"left out {describe_count(Kind(kind), left.count)}: {', '.join(left.names)}{more}")
    for name, reason in report.no_longer_documents.items():
        context.log.warning(f"no longer a document, its results are kept: {escaped(name)}: {reason}")


def _fewer_levels(levels: int) -> str:
    match levels:
        case 0:
            what = "all documents are in one partition"
        case 1:
            what = "only the first level of their paths counts"
        case _:
            what = f"only the first {levels} levels of their paths count"
    return (
        f"there were more than {MOST_PARTITIONS} folders, so {what} (OFFLOAD_PARTITION_BY; shard:N has no such limit)"
    )


def build_library_sensor(deep_slot: DeepSlot, names: Names, interval_seconds: float) -> dg.SensorDefinition:
    """The sensor of the job `scan`. It ticks every `interval_seconds`, and skips a tick before OFFLOAD_SCAN_INTERVAL is over.

    Like the drain sensor, it takes no resource, and opens Dagster's instance only if it needs it.
    """

    look = LibraryLook()

    @dg.sensor(
        name=names.of("library_sensor"),
        job_name=names.scan_job,
        minimum_interval_seconds=math.ceil(interval_seconds),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Launches {names.scan_job} when the library differs from the ledger. Checks every OFFLOAD_SCAN_INTERVAL "
        "seconds.",
    )
    def library_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        looked_at = time.time()
        try:
            settings = deep_slot.settings()
            wait = _seconds_to_next_check(context.cursor, settings.library_section.scan_interval)
            if wait > 0:
                return dg.SkipReason(f"next check of the library in {math.ceil(wait)} s (OFFLOAD_SCAN_INTERVAL)")
            ledger = deep_slot.resident_ledger(settings)
            _keep_small(context, settings, ledger)
            if needs_report(ledger):
                report_overview(context.instance, ledger, names.keys, settings, SECONDS_BETWEEN_TICKS)
                evaluate_problems(context.instance, ledger, names.keys)
            differs = look.differs(settings, ledger, LONGEST_WAIT_SECONDS)
            result = _check(context, settings, ledger, names, differs)
        except StillLooking as looking:
            return dg.SkipReason(f"{looking}: a later tick launches the scan if it differs")
        except OffloadError as error:
            result = dg.SkipReason(escaped(str(error)))
        context.update_cursor(json.dumps({"looked_at": looked_at}))
        return result

    return library_sensor


def _keep_small(context: dg.SensorEvaluationContext, settings: Settings, ledger: Ledger) -> None:
    """Remove old history. A failure is logged in the tick, and holds up no scan: new documents go first."""
    try:
        keep_small(settings, ledger, lambda: context.instance, TICK_UPKEEP_SECONDS)
    except LedgerUnavailable:
        raise
    except Exception:
        context.log.exception("old history could not be removed; the next tick tries again")


def _seconds_to_next_check(cursor: str | None, interval: float) -> float:
    looked_at = 0.0 if cursor is None else float(json.loads(cursor)["looked_at"])
    now = time.time()
    wait = looked_at + interval - now
    # Do not wait after the clock was set back, nor for a tick that Dagster counts as one interval later.
    return 0.0 if looked_at > now or wait <= TICK_TOLERANCE_SECONDS else wait


def _check(
    context: dg.SensorEvaluationContext, settings: Settings, ledger: Ledger, names: Names, differs: str | None
) -> dg.RunRequest | dg.SkipReason:
    rearranged = ledger.run(why_to_scan, settings.partition_rule)
    due = ledger.run(claims.backlog, [EXTRACT]).due
    if differs is None and rearranged is None and not due:
        return dg.SkipReason("the library is unchanged; 0 documents are due for extraction")
    if (shortage := shortage_of(settings)) is not None:
        return dg.SkipReason(escaped(shortage))
    waiting = f"{counted(due, 'document', claims.MOST_COUNTED)} {agreeing('are', due)} due for extraction"
    why = "; ".join(filter(None, [differs, rearranged, waiting if due else None]))
    if ledger.run(workers.live_workers, ledger.schema, "scan"):
        return dg.SkipReason(f"a scan is running; {why}")
    if (starting := starting_run(context, names.scan_job)) is not None:
        return dg.SkipReason(f"{starting}; {why}")
    if (failed := _same_failure(context, names.scan_job, why)) is not None:
        ledger.run(notify, FAILED_SCAN_MESSAGE)  # nothing else wakes the lines of `up` if the scan never began
        return dg.SkipReason(failed)
    return dg.RunRequest(tags=request_tags(why, names.launched_by))


def _same_failure(context: dg.SensorEvaluationContext, job_name: str, why: str) -> str | None:
    """Describe the last scan if it was launched for the same reason and failed recently; None otherwise."""
    last = context.instance.get_run_records(dg.RunsFilter(job_name=job_name, tags=of_location(context)), limit=1)
    if not last or last[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    run = last[0].dagster_run
    limit = SAME_FAILURE_SECONDS if _has_begun(context.instance, run.run_id) else NEVER_BEGAN_SECONDS
    left = limit - seconds_since(last[0].update_timestamp)
    if run.tags.get(WHY_TAG) != why or left <= 0:
        return None
    return f"the last scan (run {run.run_id[:8]}) failed: see its log; the files are the same ({why}); next try in {left:.0f} s"


def _has_begun(instance: dg.DagsterInstance, run_id: str) -> bool:
    return bool(instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_START, limit=1).records)
