"""The definitions that Dagster loads. `build_definitions` builds them from its arguments. The import opens nothing."""

import sys
import warnings
from collections.abc import Sequence

import dagster as dg

from dagster_offload.defs.assets import build_documents_asset
from dagster_offload.defs.drain import build_drain_job, build_drain_sensor
from dagster_offload.defs.inputs import LedgerInputs
from dagster_offload.defs.library import build_library_sensor, build_scan_job
from dagster_offload.defs.names import LEDGER_IO, RESOURCE, Names, names_of
from dagster_offload.defs.resources import DeepSlot, SettingsLoader, deep_slot_resource
from dagster_offload.defs.shown.overview import overview_specs
from dagster_offload.defs.waiting_executor import build_waiting_executor
from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.catalog import stage_graph

DEFAULT_PARTITIONS = "documents"
# The library sensor ticks at OFFLOAD_SCAN_INTERVAL, and at least this often: each tick reads the setting again.
MOST_SECONDS_BETWEEN_TICKS = 60.0


def build_definitions(
    settings_loader: SettingsLoader = load_settings,
    schema: str = DEFAULT_SCHEMA,
    asset_key_prefix: Sequence[str] = (),
    partitions_name: str = DEFAULT_PARTITIONS,
    name_prefix: str = "",
) -> dg.Definitions:
    """The assets, jobs and sensors of one library.

    One Dagster instance can hold several libraries, each with its own ledger schema, asset key prefix and partitions
    name. If one code location holds them, each also needs a `name_prefix` for its jobs, sensors and resources.
    `settings_loader` is called here, for the stages and the interval at which the library sensor ticks, and again by each
    run and tick.

    With the executor set here, a run that waits for a slot uses no processor time. `library_definitions` sets none.
    """
    settings = _settings_or_defaults(settings_loader)
    names = names_of(stage_graph(settings), asset_key_prefix, name_prefix)
    slot = DeepSlot(settings_loader, schema)
    return dg.Definitions.merge(
        library_definitions(settings, slot, names, partitions_name),
        # While a step waits, one executor of Dagster uses a whole core and the other ignores a cancel. See decision 0009.
        dg.Definitions(executor=build_waiting_executor(slot, names)),
    )


def library_definitions(settings: Settings, slot: DeepSlot, names: Names, partitions_name: str) -> dg.Definitions:
    """The definitions of one library without an executor, for a project that has its own.

    The assets work with any executor; docs/decisions/0009-waiting-runs.md names the cost.
    """
    partitions = dg.DynamicPartitionsDefinition(name=partitions_name)
    with warnings.catch_warnings():
        # `backfill_policy` is a beta feature. Without it, a range becomes one run per document.
        warnings.simplefilter("ignore", dg.BetaWarning)
        documents = build_documents_asset(names, partitions, settings)
    ticks_every = min(settings.library_section.scan_interval, MOST_SECONDS_BETWEEN_TICKS)
    deep_slot = deep_slot_resource(slot, settings)
    return dg.Definitions(
        assets=[documents, *overview_specs(names.keys)],
        jobs=[build_scan_job(names, partitions_name, deep_slot), build_drain_job(names, deep_slot)],
        sensors=[
            build_library_sensor(slot, names, ticks_every),
            build_drain_sensor(slot, names),
        ],
        resources={names.of(RESOURCE): deep_slot, names.of(LEDGER_IO): LedgerInputs(slot, names)},
    )


def _settings_or_defaults(settings_loader: SettingsLoader) -> Settings:
    """The settings that say which stages there are. With wrong settings the built-in ones: runs and ticks name the fault."""
    try:
        settings = settings_loader()
        stage_graph(settings)
    except SettingsError as error:
        print(f"Only the built-in stages are defined, because the settings are wrong: {error}", file=sys.stderr)
        return Settings.model_construct()
    return settings


defs = build_definitions()
