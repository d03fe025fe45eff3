"""The section `backup` of the pipeline file: the backups that `up` makes by itself."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from dagster_offload.settings.sections.section import AbsolutePath, Section, Variable
from dagster_offload.text.durations import read_duration


def _interval(value: object) -> object:
    """A number and a unit: `30m`, `12h`, `1d`, `1w`."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not (interval := read_duration(value)):  # zero would be a backup without end
        raise ValueError("must be a number and a unit: 30m, 12h, 1d or 1w")
    return interval


Interval = Annotated[timedelta | None, BeforeValidator(_interval), WithJsonSchema({"type": ["string", "null"]})]


class BackupSection(Section):
    """How often, how many, and where."""

    every: Annotated[Interval, Variable("OFFLOAD_BACKUP_EVERY")] = Field(
        default=None, description="how often `up` makes a backup: `12h`, `1d`, `1w`; unset = never"
    )
    keep: Annotated[int, Variable("OFFLOAD_BACKUP_KEEP")] = Field(
        default=7, ge=1, description="how many of these backups are kept"
    )
    dir: Annotated[AbsolutePath | None, Variable("OFFLOAD_BACKUP_DIR")] = Field(
        default=None, description="an existing folder for backups; unset = the folder `backups` in the home"
    )
