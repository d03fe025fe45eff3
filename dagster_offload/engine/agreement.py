"""One pipeline for one ledger: a run, a drain and a command agree with the running `up`, or refuse before they write."""

import time
from collections.abc import Callable
from typing import TypeVar

from dagster_offload import timing
from dagster_offload.errors import OtherPipeline
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import refuse_other_pipeline
from dagster_offload.settings import Settings
from dagster_offload.stages.pipeline import Pipeline, difference, pipeline_of

T = TypeVar("T")

CHECK_EVERY_SECONDS = 0.25


def agree_with_up(ledger: Ledger, here: Pipeline) -> None:
    """Raise `OtherPipeline` if a running `up` still works with other recipes or slots than `here` after a few seconds.

    `up` takes over an edit of the settings within seconds. A process that starts in between has them already.
    """
    give_up_at = time.monotonic() + timing.current().take_over
    while True:
        try:
            return ledger.run(refuse_other_pipeline, here)
        except OtherPipeline:
            if time.monotonic() >= give_up_at:
                raise
        time.sleep(CHECK_EVERY_SECONDS)


def with_settings_in_force(read_settings: Callable[[], Settings], work: Callable[[Settings], T]) -> T:
    """Call `work` with the settings, and again if it raised `OtherPipeline` and the settings have changed since then.

    So a run that read its settings just before the running `up` took over an edit works with the edited ones. `work` must
    refuse before it writes.
    """
    settings = read_settings()
    while True:
        try:
            return work(settings)
        except OtherPipeline:
            now = read_settings()
            if difference(pipeline_of(now), pipeline_of(settings)) is None:
                raise
            settings = now
