"""The definitions of one library: its assets, jobs, sensors and resources, without an executor. The import opens nothing."""

import warnings

import dagster as dg

from dagster_offload.defs.assets import build_documents_asset
from dagster_offload.defs.drain import build_drain_job, build_drain_sensor
from dagster_offload.defs.extract import build_extract_job
from dagster_offload.defs.inputs import LedgerInputs
from dagster_offload.defs.library import build_library_sensor, build_scan_job
from dagster_offload.defs.names import LEDGER_IO, RESOURCE, Names
from dagster_offload.defs.resources import DeepSlot, deep_slot_resource
from dagster_offload.defs.shown.overview import overview_specs
from dagster_offload.settings import Settings

# The library sensor ticks at OFFLOAD_SCAN_INTERVAL, and at least this often: each tick reads the setting again.
MOST_SECONDS_BETWEEN_TICKS = 60.0


def library_definitions(
    settings: Settings,
    slot: DeepSlot,
    names: Names,
    partitions_name: str,
    extract_executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The definitions of one library, for any executor; docs/decisions/0009-waiting-runs.md names what a wait costs.

    `extract_executor` runs the job `extract`; None = the executor of the code location.
    """
    partitions = dg.DynamicPartitionsDefinition(name=partitions_name)
    with warnings.catch_warnings():
        # `backfill_policy` is a beta feature. Without it, a range becomes one run per document.
        warnings.simplefilter("ignore", dg.BetaWarning)
        documents = build_documents_asset(names, partitions, settings)
    ticks_every = min(settings.library_section.scan_interval, MOST_SECONDS_BETWEEN_TICKS)
    deep_slot = deep_slot_resource(slot, settings)
    return dg.Definitions(
        assets=[documents, *overview_specs(names, settings.slots_section.further)],
        jobs=[
            build_scan_job(names, partitions_name, deep_slot),
            build_extract_job(names, deep_slot, extract_executor),
            build_drain_job(names, deep_slot),
        ],
        sensors=[
            build_library_sensor(slot, names, ticks_every),
            build_drain_sensor(slot, names),
        ],
        resources={names.of(RESOURCE): deep_slot, names.of(LEDGER_IO): LedgerInputs(slot, names)},
    )
