"""How far a job has come, in its run's log. One line costs as much as telling forty documents, so each tenth is told."""

from collections.abc import Callable

import dagster as dg

from dagster_offload.engine.progress import Tally, read_in_words
from dagster_offload.plain_text import escaped
from dagster_offload.stages.graph import EXTRACT

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def progress(context: Context) -> Callable[[Tally], None]:
    """Log each tenth of the documents, and of a long document's parts."""
    tell_parts, told = parts_progress(context), 0

    def tell(tally: Tally) -> None:
        nonlocal told
        tell_parts(tally)
        if tally.ended > told and 10 * (tally.ended - told) >= tally.total:
            told = tally.ended
            context.log.info(
                f"{tally.done} done, {tally.failed} failed, {tally.deferred} deferred of {tally.total} documents"
            )

    return tell


def parts_progress(context: Context) -> Callable[[Tally], None]:
    """Log each tenth of a long document's parts."""
    told: dict[tuple[str, str], int] = {}  # tenths by document and stage

    def tell(tally: Tally) -> None:
        read = tally.reading
        if read is None:
            return
        tenth = read.done * 10 // read.total
        if tenth > told.get((read.document, read.stage), 0):
            told[read.document, read.stage] = tenth
            words = read_in_words(read.stage, read.done, read.total)
            document = escaped(read.document)
            what = f"extracting {document}" if read.stage == EXTRACT else f"{document}: {read.stage}"
            context.log.info(f"{what}: {words}")

    return tell
