"""One pipeline for one ledger: a run, a drain and a command agree with the running `up`, or refuse before they write."""

import time

from dagster_offload import timing
from dagster_offload.errors import OtherPipeline
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.pipelines import refuse_other_pipeline
from dagster_offload.stages.pipeline import Pipeline

CHECK_EVERY_SECONDS = 0.25


def agree_with_up(ledger: Ledger, here: Pipeline) -> None:
    """Raise `OtherPipeline` if a running `up` still works with other recipes than `here` after a few seconds.

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
