"""Job `scan`: the library into ledger and partitions, then its text. `library_sensor`: launch it when files differ."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from dagster_offload.defs.events import EventReporter, reporting
from dagster_offload.defs.names import SCAN_JOB, SCAN_STEP
from dagster_offload.defs.partitions import equal_to_documents
from dagster_offload.defs.progress import progress
from dagster_offload.defs.resources import DeepSlot, failures_as_messages
from dagster_offload.defs.runs import about_to_start, run_tags, seconds_since, tag_run
from dagster_offload.engine.extract import run_extraction
from dagster_offload.engine.scan import library_differs, scan
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims, documents
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

WHY_TAG = "dagster_offload/why"
# A scan that failed (it refused to forget documents, say) is not launched again for the same reason before this.
SAME_FAILURE_SECONDS = 600.0


class ScanConfig(dg.Config):
    """How to scan."""

    accept_vanished: bool = False


def build_scan_job(
    asset_keys: Mapping[str, dg.AssetKey], partitions_name: str, resource: dg.ResourceDefinition
) -> dg.JobDefinition:
    @dg.op(
        name=SCAN_STEP,
        out=dg.Out(dict, description="What the scan found, in documents.", io_manager_key="summaries"),
        description="Compare the library with the ledger, make the partitions equal, take the text of what is new.",
    )
    def scan_library(
        context: dg.OpExecutionContext, config: ScanConfig, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> dict[str, Any]:
        with failures_as_messages():
            settings = deep_slot.settings()
            tag_run(context)
            with deep_slot.ledger() as ledger:
                for slot in settings.slots:
                    ledger.run(slots.register, slot)
                report = scan(settings, ledger, accept_vanished=config.accept_vanished, run_id=context.run.run_id)
                changes = equal_to_documents(context.instance, partitions_name, ledger.run(documents.present_keys))
                context.log.info(
                    f"{report.found} documents: {report.added} new, {report.changed} changed, {report.returned} back, "
                    f"{report.vanished} gone; partitions: {changes.added} added, {changes.removed} removed"
                )
                for name, reason in report.unusable_names.items():
                    context.log.warning(f"unusable_name {name}: {reason}")
                for name, reason in report.folders_left_out.items():
                    context.log.info(f"left out {name}: {reason}")
                reporter = EventReporter.in_step(context, settings, ledger, asset_keys)
                with reporting(reporter):
                    extracted = run_extraction(
                        settings, ledger, run_id=context.run.run_id, on_progress=progress(context)
                    )
                reporter.report_all()
                if extracted.machine_fault is not None:
                    context.log.warning(f"documents wait: {extracted.machine_fault}")
        summary = {
            **asdict(report),
            "extracted": extracted.done,
            "extraction_failed": extracted.failed,
            "extraction_to_retry": extracted.to_retry,
            "machine_fault": extracted.machine_fault or "",
        }
        context.add_output_metadata(summary)
        return summary

    @dg.job(
        name=SCAN_JOB,
        description="Look at the whole library once: new, changed and gone documents, then their text.",
        executor_def=dg.in_process_executor,
        resource_defs={"deep_slot": resource, "summaries": dg.mem_io_manager},
    )
    def scan_job() -> None:
        scan_library()

    return scan_job


def build_library_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="library_sensor",
        job_name=SCAN_JOB,
        minimum_interval_seconds=1,  # the interval between two looks is a setting, read at each tick
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches `scan` when files of the library differ from the ledger (OFFLOAD_SCAN_INTERVAL).",
    )
    def library_sensor(
        context: dg.SensorEvaluationContext, deep_slot: dg.ResourceParam[DeepSlot]
    ) -> dg.RunRequest | dg.SkipReason:
        try:
            settings = deep_slot.settings()
            wait = _seconds_to_next_look(context.cursor, settings.scan_interval)
            if wait > 0:
                return dg.SkipReason(f"next look at the library in {math.ceil(wait)} s (OFFLOAD_SCAN_INTERVAL)")
            with deep_slot.ledger() as ledger:
                found = _look(context.instance, settings, ledger)
        except OffloadError as error:
            found = dg.SkipReason(escaped(str(error)))
        context.update_cursor(json.dumps({"looked_at": time.time()}))
        return found

    return library_sensor


def _seconds_to_next_look(cursor: str | None, interval: float) -> float:
    looked_at = 0.0 if cursor is None else float(json.loads(cursor)["looked_at"])
    now = time.time()
    return 0.0 if looked_at > now else looked_at + interval - now  # a clock that was set back is no reason to wait


def _look(instance: dg.DagsterInstance, settings: Settings, ledger: Ledger) -> dg.RunRequest | dg.SkipReason:
    differs = library_differs(settings, ledger)
    due = ledger.run(claims.count_due, [EXTRACT])
    if differs is None and not due:
        return dg.SkipReason("the library is as the ledger has it; 0 documents wait for extraction")
    waiting = "1 document waits for extraction" if due == 1 else f"{due} documents wait for extraction"
    why = "; ".join([*([differs] if differs else []), *([waiting] if due else [])])
    if (starting := about_to_start(instance, SCAN_JOB)) is not None:
        return dg.SkipReason(f"{starting}; {why}")
    if live := len(ledger.run(workers.live_workers, ledger.schema, "scan")):
        return dg.SkipReason(f"{live} scan is at work; {why}")
    if (failed := _same_failure(instance, why)) is not None:
        return dg.SkipReason(failed)
    return dg.RunRequest(tags={**run_tags(), WHY_TAG: why})


def _same_failure(instance: dg.DagsterInstance, why: str) -> str | None:
    """Whether the last scan was launched for the very same reason and failed, a short time ago."""
    last = instance.get_run_records(dg.RunsFilter(job_name=SCAN_JOB), limit=1)
    if not last or last[0].dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return None
    run, left = last[0].dagster_run, SAME_FAILURE_SECONDS - seconds_since(last[0].update_timestamp)
    if run.tags.get(WHY_TAG) != why or left <= 0:
        return None
    return (
        f"the last scan ({run.run_id[:8]}) failed, see why there; same files since ({why}); tries again in {left:.0f} s"
    )
