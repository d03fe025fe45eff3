"""Progress in a run's log. A log line costs as much as reporting forty documents, so only each tenth is logged."""

from collections.abc import Callable

import dagster as dg

from dagster_offload.engine.progress import ProgressCounts, describe_parts_read
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

Context = dg.OpExecutionContext | dg.AssetExecutionContext


def progress(context: Context) -> Callable[[ProgressCounts], None]:
    """Log each tenth of the documents, and of a long document's parts."""
    log_parts, logged = parts_progress(context), 0

    def log(counts: ProgressCounts) -> None:
        nonlocal logged
        log_parts(counts)
        if counts.ended > logged and 10 * (counts.ended - logged) >= counts.total:
            logged = counts.ended
            context.log.info(
                f"{counts.done} done, {counts.failed} failed, {counts.deferred} deferred of {counts.total} documents"
            )

    return log


def parts_progress(context: Context) -> Callable[[ProgressCounts], None]:
    """Log each tenth of a long document's parts."""
    logged: dict[tuple[str, str], int] = {}  # tenths by document and stage

    def log(counts: ProgressCounts) -> None:
        read = counts.reading
        if read is None:
            return
        tenth = read.done * 10 // read.total
        if tenth > logged.get((read.document, read.stage), 0):
            logged[read.document, read.stage] = tenth
            position = describe_parts_read(read.stage, read.done, read.total, read.pages_per_minute)
            document = escaped(read.document)
            what = f"extracting {document}" if read.stage == EXTRACT else f"{document}: {read.stage}"
            context.log.info(f"{what}: {position}")

    return log
