"""How far a job has come, in its run's log."""

from collections.abc import Callable

import dagster as dg

from dagster_offload.tally import Tally


def progress(context: dg.OpExecutionContext) -> Callable[[Tally], None]:
    """Log each tenth of the work: one log line costs as much as telling forty documents."""
    told = 0

    def tell(tally: Tally) -> None:
        nonlocal told
        tenth = (tally.done + tally.failed + tally.deferred) * 10 // max(tally.total, 1)
        if tenth > told:
            told = tenth
            context.log.info(
                f"{tally.done} done, {tally.failed} failed, {tally.deferred} deferred of {tally.total} documents"
            )

    return tell
