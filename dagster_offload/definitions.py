"""The definitions that Dagster loads. `build_definitions` builds them from its arguments. The import opens nothing."""

import warnings
from collections.abc import Sequence

import dagster as dg

from dagster_offload.defs.assets import build_documents_asset
from dagster_offload.defs.drain import build_drain_job, build_drain_sensor
from dagster_offload.defs.library import build_library_sensor, build_scan_job
from dagster_offload.defs.names import asset_keys
from dagster_offload.defs.resources import DeepSlot, SettingsLoader, deep_slot_resource
from dagster_offload.defs.waiting_executor import build_waiting_executor
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA
from dagster_offload.settings import load_settings

DEFAULT_PARTITIONS = "documents"
LIBRARY_INTERVAL_SECONDS = 60.0


def build_definitions(
    settings_loader: SettingsLoader = load_settings,
    schema: str = DEFAULT_SCHEMA,
    asset_key_prefix: Sequence[str] = (),
    partitions_name: str = DEFAULT_PARTITIONS,
    library_interval_seconds: float = LIBRARY_INTERVAL_SECONDS,
) -> dg.Definitions:
    """The assets, jobs and sensors of one library.

    One Dagster instance can hold several libraries, each with its own ledger schema, asset key prefix and partitions
    name. Runs and ticks call `settings_loader`; this function does not. So a `OFFLOAD_SCAN_INTERVAL` below
    `library_interval_seconds`, the interval at which the library sensor ticks, has no effect; `up` passes the setting.
    With the executor set here, a run that waits for a slot uses no processor time. The assets work with any executor;
    docs/decisions/0009-waiting-runs.md names the cost.
    """
    keys = asset_keys(asset_key_prefix)
    partitions = dg.DynamicPartitionsDefinition(name=partitions_name)
    with warnings.catch_warnings():
        # `backfill_policy` is a beta feature. Without it, a range becomes one run per document.
        warnings.simplefilter("ignore", dg.BetaWarning)
        documents = build_documents_asset(keys, partitions)
    slot = DeepSlot(settings_loader, schema)
    deep_slot = deep_slot_resource(slot)
    return dg.Definitions(
        assets=[documents],
        jobs=[build_scan_job(keys, partitions_name, deep_slot), build_drain_job(keys, deep_slot)],
        sensors=[build_library_sensor(slot, library_interval_seconds), build_drain_sensor(slot, keys)],
        resources={"deep_slot": deep_slot},
        # While a step waits, one executor of Dagster uses a whole core and the other ignores a cancel. See decision 0009.
        executor=build_waiting_executor(slot, keys),
    )


defs = build_definitions()
