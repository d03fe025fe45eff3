"""Job `drain`: work off the backlog on the deep slot. `drain_sensor`: launch it when the slot is back.

The job's one op takes whatever the ledger hands out and records each document as it finishes. It is no asset job: run
without a partition key, such a job stores planned materializations without a partition, and backfills fail on one.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.names import DRAIN_JOB, DRAIN_STEP
from dagster_offload.defs.progress import progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import about_to_start, run_tags, tag_run
from dagster_offload.drain import ALL, run_drain
from dagster_offload.engine.wake import decide_drain
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.work import claims
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import DRAIN_STAGES
from dagster_offload.text.plain_text import escaped

# How long a sensor's tick may spend on events that no run told.
REPORTING_SECONDS = 5.0


class DrainConfig(dg.Config):
    """What to drain."""

    stage: str = ALL
    limit: int | None = None


def build_drain_job(asset_keys: Mapping[str, dg.AssetKey], resource: dg.ResourceDefinition) -> dg.JobDefinition:
    @dg.op(
        name=DRAIN_STEP,
        out=dg.Out(dict, description="The drain's summary, in documents.", io_manager_key="summaries"),
        description="Work off due documents on the deep slot, at most `limit`; ends when the slot goes away.",
    )
    def drain_backlog(
        context: dg.OpExecutionContext, config: DrainConfig, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> dict[str, Any]:
        with failures_as_messages():
            settings = deep_slot.settings()
            tag_run(context)
            with deep_slot.ledger() as ledger:
                reporter = EventReporter.in_step(context, settings, ledger, asset_keys)
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
        if summary.is_misconfigured:
            context.log.error(f"stopped: {summary.reason}")
        elif summary.reason:
            context.log.warning(f"stopped: {summary.reason}")
        if summary.warning:
            context.log.warning(summary.warning)
        context.add_output_metadata({name: value for name, value in asdict(summary).items() if value is not None})
        return asdict(summary)

    @dg.job(
        name=DRAIN_JOB,
        description="Work off everything that is due on the deep slot, in any order, in one run.",
        executor_def=dg.in_process_executor,
        resource_defs={"deep_slot": resource, "summaries": dg.mem_io_manager},
    )
    def drain() -> None:
        drain_backlog()

    return drain


def build_drain_sensor(asset_keys: Mapping[str, dg.AssetKey]) -> dg.SensorDefinition:
    @dg.sensor(
        name="drain_sensor",
        job_name=DRAIN_JOB,
        # The daemon looks every 5 s; 5 here would make it every 10 s.
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches `drain` when the deep slot answers, documents are due and no drain is at work.",
    )
    def drain_sensor(
        context: dg.SensorEvaluationContext, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            settings = deep_slot.settings()
            with deep_slot.ledger() as ledger:
                EventReporter(context.instance, ledger, asset_keys, recipes(settings), settings.library).tell(
                    REPORTING_SECONDS
                )
                if (starting := about_to_start(context.instance, DRAIN_JOB)) is not None:
                    return dg.SkipReason(f"{starting}; {ledger.run(claims.backlog, DRAIN_STAGES)}")
                decision = decide_drain(settings, ledger)
        except OffloadError as error:
            return dg.SkipReason(escaped(str(error)))
        return dg.RunRequest(tags=run_tags()) if decision.launch else dg.SkipReason(decision.message)

    return drain_sensor
