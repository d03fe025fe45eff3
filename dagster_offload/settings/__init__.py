"""The settings of a pipeline: one frozen model, loaded from options, the environment, `.env` and the pipeline file.

No other package reads `OFFLOAD_*` or `offload.yaml`. `model` has the fields, `loading` puts the sources together.
"""

from dagster_offload.settings.loading import (
    Loaded,
    load_settings,
    read_edited,
    read_settings,
)
from dagster_offload.settings.model import Settings, default_home
from dagster_offload.settings.python_stages import with_stages
from dagster_offload.settings.sections.slots import DrainSlotSettings, SlotSettings, SlotsSection
from dagster_offload.stage_spec.stage import StageSpec as Stage

__all__ = [
    "DrainSlotSettings",
    "Loaded",
    "Settings",
    "SlotSettings",
    "SlotsSection",
    "Stage",
    "default_home",
    "load_settings",
    "read_edited",
    "read_settings",
    "with_stages",
]
