"""How far a job has come, in its run's log. One line costs as much as telling forty documents, so each tenth is told."""

from collections.abc import Callable

import dagster as dg

from dagster_offload.engine.progress import ProgressCounts, describe_parts_read
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def progress(context: Context) -> Callable[[ProgressCounts], None]:
    """Log each tenth of the documents, and of a long document's parts."""
    tell_parts, told = parts_progress(context), 0

    def tell(counts: ProgressCounts) -> None:
        nonlocal told
        tell_parts(counts)
        if counts.ended > told and 10 * (counts.ended - told) >= counts.total:
            told = counts.ended
            context.log.info(
                f"{counts.done} done, {counts.failed} failed, {counts.deferred} deferred of {counts.total} documents"
            )

    return tell


def parts_progress(context: Context) -> Callable[[ProgressCounts], None]:
    """Log each tenth of a long document's parts."""
    told: dict[tuple[str, str], int] = {}  # tenths by document and stage

    def tell(counts: ProgressCounts) -> None:
        read = counts.reading
        if read is None:
            return
        tenth = read.done * 10 // read.total
        if tenth > told.get((read.document, read.stage), 0):
            told[read.document, read.stage] = tenth
            words = describe_parts_read(read.stage, read.done, read.total)
            document = escaped(read.document)
            what = f"extracting {document}" if read.stage == EXTRACT else f"{document}: {read.stage}"
            context.log.info(f"{what}: {words}")

    return tell
