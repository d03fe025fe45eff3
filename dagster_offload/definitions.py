"""The definitions that Dagster loads. `build_definitions` builds them from its arguments. The import opens nothing."""

import sys
from collections.abc import Sequence

import dagster as dg

from dagster_offload.defs.definitions import library_definitions
from dagster_offload.defs.execution.celery import build_celery_executor
from dagster_offload.defs.execution.waiting_executor import build_waiting_executor
from dagster_offload.defs.names import names_of
from dagster_offload.defs.resources import DeepSlot, SettingsLoader
from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.catalog import stage_graph

DEFAULT_PARTITIONS = "documents"


def build_definitions(
    settings_loader: SettingsLoader = load_settings,
    schema: str = DEFAULT_SCHEMA,
    asset_key_prefix: Sequence[str] = (),
    partitions_name: str = DEFAULT_PARTITIONS,
    name_prefix: str = "",
    extract_executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """The assets, jobs and sensors of one library.

    One Dagster instance can hold several libraries, each with its own ledger schema, asset key prefix and partitions
    name. If one code location holds them, each also needs a `name_prefix` for its jobs, sensors and resources.
    `settings_loader` is called here, for the stages and the interval at which the library sensor ticks, and again by each
    run and tick.

    `extract_executor` runs the job `extract`, on several hosts if it can. None: Celery if `celery.broker` is set, else this host.

    With the executor set here, a run that waits for a slot uses no processor time. A component sets none.
    """
    settings = _settings_or_defaults(settings_loader)
    names = names_of(stage_graph(settings), asset_key_prefix, name_prefix)
    slot = DeepSlot(settings_loader, schema)
    if extract_executor is None and settings.celery.broker is not None:
        extract_executor = build_celery_executor(settings)
    return dg.Definitions.merge(
        library_definitions(settings, slot, names, partitions_name, extract_executor),
        # While a step waits, one executor of Dagster uses a whole core and the other ignores a cancel. See decision 0009.
        dg.Definitions(executor=build_waiting_executor(slot, names)),
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
