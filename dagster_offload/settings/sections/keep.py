"""The section `keep` of the pipeline file: how much of the past is kept."""

from typing import Annotated

from pydantic import Field

from dagster_offload.settings.sections.section import Section, Variable

# What Postgres can subtract from today (its calendar begins in 4714 BC), and count.
MOST_DAYS = 2_000_000
MOST_ROWS = 10**18


class KeepSection(Section):
    """Ages in days, and numbers of rows."""

    history_days: Annotated[int, Variable("OFFLOAD_KEEP_HISTORY_DAYS")] = Field(
        default=365,
        ge=30,
        le=MOST_DAYS,
        description="days for which calls, changes of state, workers and reported events are kept",
    )
    history_rows: Annotated[int, Variable("OFFLOAD_KEEP_HISTORY_ROWS")] = Field(
        default=10_000_000, ge=1_000, le=MOST_ROWS, description="most calls, and most changes of state, that are kept"
    )
    runs_days: Annotated[int, Variable("OFFLOAD_KEEP_RUNS_DAYS")] = Field(
        default=90, ge=1, le=MOST_DAYS, description="days for which Dagster's runs and their logs are kept"
    )
    runs: Annotated[int, Variable("OFFLOAD_KEEP_RUNS")] = Field(
        default=10_000, ge=100, le=MOST_ROWS, description="most finished runs that are kept"
    )
    gone_days: Annotated[int | None, Variable("OFFLOAD_KEEP_GONE_DAYS")] = Field(
        default=None,
        ge=1,
        le=MOST_DAYS,
        description="days after which the results of a document that is gone are removed; unset = never",
    )
