"""The definitions that `up` serves: the library sensor ticks at the interval of the settings.

The daemon pays for every tick, also for one that only skips, and the interval of a sensor is part of its definition. So it
is read here, once. `dagster_offload.definitions` reads no settings when it is imported.
"""

import sys

import dagster as dg

from dagster_offload import definitions
from dagster_offload.errors import SettingsError
from dagster_offload.settings import load_settings


def _served() -> dg.Definitions:
    try:
        interval = load_settings().scan_interval
    except SettingsError as error:  # each tick reports it, too
        print(f"The library sensor ticks every minute, because the settings are wrong: {error}", file=sys.stderr)
        interval = definitions.LIBRARY_INTERVAL_SECONDS
    if interval >= definitions.LIBRARY_INTERVAL_SECONDS:
        return definitions.defs
    return definitions.build_definitions(library_interval_seconds=interval)


defs = _served()
