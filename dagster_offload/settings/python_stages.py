"""Stages that are written in Python instead of the pipeline file."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from dagster_offload.errors import SettingsError
from dagster_offload.settings.model import Settings, StagesSection
from dagster_offload.stage_spec.stage import StageSpec
from dagster_offload.text.validation import fault_in_words, path_of


def with_stages(settings: Settings, **stages: StageSpec) -> Settings:
    """The settings with these stages, by name, beside those of the pipeline file. A stage of the same name is replaced.

    Raises `SettingsError` for a mistake between the stages.
    """
    built_in = {name: getattr(settings.stages, name) for name in StagesSection.model_fields}
    try:
        section = StagesSection.model_validate(built_in | dict(settings.own_stages) | stages)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise SettingsError(*(f"stages.{_place(fault)}: {fault_in_words(fault)}" for fault in faults)) from None
    return settings.model_copy(update={"stages": section})


def _place(fault: Mapping[str, Any]) -> str:
    return ".".join(map(str, path_of(fault)))
