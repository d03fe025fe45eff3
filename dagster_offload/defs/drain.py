"""Job `drain`: process the backlog on the deep slot. `drain_sensor`: launch the job when the slot answers again.

The job has one op. It claims documents from the ledger and records each one when it finishes. It is not an asset job: an
asset job without a partition key stores planned materializations without a partition, and backfills fail on those.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg
from pydantic import Field

from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.names import DRAIN_STEP, Names
from dagster_offload.defs.progress import progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import request_tags, starting_run, tag_run
from dagster_offload.defs.shown.overview import report_overview
from dagster_offload.defs.shown.problems import evaluate_problems, name_problems
from dagster_offload.drain import ALL, DrainSummary, run_drain
from dagster_offload.engine.agreement import with_settings_in_force
from dagster_offload.engine.slot.free_work import FreeWork
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.status import Problem
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings
from dagster_offload.text.plain_text import escaped

# The time a tick may spend on events that no run has reported.
REPORTING_SECONDS = 5.0
NO_ANSWER = "No document got a usable answer"


class DrainConfig(dg.Config):
    """The stage to drain, the maximum number of documents (None: no limit), and whether a person wants another
    try of what waits for one."""

    stage: str = ALL
    limit: int | None = None
    try_again: bool = Field(default=False, description="Try the slots at once, and the stages that they hold.")


def build_drain_job(names: Names, resource: dg.ResourceDefinition) -> dg.JobDefinition:
    """The job that processes the backlog."""

    @dg.op(
        name=names.of(DRAIN_STEP),
        out=dg.Out(DrainSummary, description="Summary: numbers of documents.", io_manager_key="summaries"),
        description="Processes due documents on the deep slot, at most `limit`. Ends when the slot becomes unavailable.",
    )
    def drain_backlog(
        context: dg.OpExecutionContext, config: DrainConfig, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> DrainSummary:
        with failures_as_messages():
            tag_run(context)
            with deep_slot.ledger() as ledger:

                def work(settings: Settings) -> tuple[Settings, DrainSummary]:
                    return settings, _drain(context, config, settings, ledger, names)

                settings, summary = with_settings_in_force(deep_slot.settings, work)
                found = ledger.run(status.problems_of_run, context.run.run_id)
                evaluate_problems(context.instance, ledger, names.keys)
                report_overview(context.instance, ledger, names.keys, settings)
        _show(context, summary, found)
        return summary

    @dg.job(
        name=names.drain_job,
        description="Processes all due documents on the deep slot in one run, in any order.",
        executor_def=dg.in_process_executor,
        resource_defs={"deep_slot": resource, "summaries": dg.mem_io_manager},
    )
    def drain() -> None:
        drain_backlog()

    return drain


def _drain(
    context: dg.OpExecutionContext, config: DrainConfig, settings: Settings, ledger: Ledger, names: Names
) -> DrainSummary:
    """Drain, and report what is done to Dagster meanwhile."""
    if config.try_again:
        for slot in settings.slots:  # also `primary`: its errors name this job, too
            ledger.run(slots.try_again, slot.name, "requested with try_again")
        if settings.slots.primary is not None and not settings.slots.of_drains:
            context.log.info(
                "The next run of documents tries `primary` again. No other slot is configured, so none is drained."
            )
            return DrainSummary(done=0, failed=0, deferred=0, left=0, held_elsewhere=0)
    reporter = EventReporter.in_step(context, settings, ledger, names)
    with reporting(reporter):
        summary = run_drain(
            settings,
            ledger,
            config.stage,
            config.limit,
            run_id=context.run.run_id,
            on_progress=progress(context),
        )
    reporter.report_all()
    return summary


def _show(context: dg.OpExecutionContext, summary: DrainSummary, found: Sequence[Problem]) -> None:
    """Write what the drain achieved into the log and the metadata of the step."""
    outcome = outcome_of(summary)
    context.log.log(logging.WARNING if outcome.startswith(NO_ANSWER) else logging.INFO, outcome)
    if summary.is_misconfigured:
        context.log.error(f"stopped: {summary.reason}")
    elif summary.reason:
        context.log.warning(f"stopped: {summary.reason}")
    if summary.warning:
        context.log.warning(summary.warning)
    metadata = {name: value for name, value in asdict(summary).items() if value not in (None, {})}
    context.add_output_metadata({"outcome": outcome, **name_problems(context.log, found), **metadata})


def outcome_of(summary: DrainSummary) -> str:
    """What a drain achieved, in one sentence. A drain that worked and got no usable answer says so first."""
    in_part = f", {summary.answered_in_part} answered in part" if summary.answered_in_part else ""
    counts = f"{summary.done} done{in_part}, {summary.failed} failed, {summary.deferred} deferred, {summary.left} left"
    if summary.done or summary.answered_in_part:
        return f"Documents: {counts}."
    if summary.failed or summary.deferred or summary.left:
        return f"{NO_ANSWER}: {counts}."
    return "No document was due."


def build_drain_sensor(deep_slot: DeepSlot, names: Names) -> dg.SensorDefinition:
    """The sensor of the job `drain`. A tick also reports events that no run has reported.

    A tick every five seconds must be cheap, so it takes no resource and opens Dagster's instance only if it needs it:
    Dagster opens the instance for a sensor that takes a resource.
    """
    free_work = FreeWork()

    @dg.sensor(
        name=names.drain_sensor,
        job_name=names.drain_job,
        # The daemon checks every 5 s. A value of 5 would mean a tick every 10 s.
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Launches {names.drain_job} when the deep slot answers, documents are due and no drain is running.",
    )
    def drain_sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            settings = deep_slot.settings()
            ledger = deep_slot.resident_ledger(settings)
            if ledger.run(outbox.is_any_pending):
                EventReporter(context.instance, ledger, names, settings).report(REPORTING_SECONDS)
            decision = decide_drain(settings, ledger, free_work)
        except OffloadError as error:
            return dg.SkipReason(escaped(str(error)))
        if not decision.launch:
            return dg.SkipReason(decision.message)
        if (starting := starting_run(context, names.drain_job)) is not None:
            return dg.SkipReason(f"{starting}; {decision.message}")
        return dg.RunRequest(tags=request_tags(decision.message, names.launched_by))

    return drain_sensor
