"""Extracts together with other steps of one run, on any hosts, until nothing is left. The ledger is the only coordination."""

import threading
from collections.abc import Callable

from dagster_offload import timing
from dagster_offload.engine.extraction.host import LibraryWatch, refuse_unfit_host
from dagster_offload.engine.extraction.run import extract_due
from dagster_offload.engine.progress import Progress, ProgressCounts
from dagster_offload.errors import HostRefused
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import claims
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import EXTRACT

EXTRACT_WORKER = "extract"  # the kind of these workers


def extract_together(
    settings: Settings,
    ledger: Ledger,
    run_id: str,
    *,
    on_progress: Progress | None = None,
    stop_if_ended: Callable[[], None] = lambda: None,
) -> ProgressCounts:
    """Extract what is due until nothing is, and no other step of the run holds a document. Returns the documents by outcome.

    While another step holds some, this one waits for them: if that step's host dies, its documents become due again here.
    A worker whose work was reclaimed (its host was cut off for longer than its lease) registers anew.

    `stop_if_ended` is called about every second, and raises if the run has ended. Raises `HostRefused` if this host may not
    take part, or loses the library.
    """
    refuse_unfit_host(settings, ledger)
    if settings.library is None:
        raise HostRefused("no library: set OFFLOAD_LIBRARY")
    library = LibraryWatch(settings.library)

    def watch() -> None:
        stop_if_ended()
        library.refuse_if_lost()

    counts = ProgressCounts()
    while True:
        with Worker(ledger, EXTRACT_WORKER, [EXTRACT], run_id) as worker:
            notified = threading.Event()
            worker.on_notify(lambda _: notified.set())
            while not worker.is_lost:
                added = extract_due(settings, ledger, worker, on_progress=on_progress, watch=watch)
                counts.add(added)
                if worker.is_lost:
                    break
                if added.machine_fault is not None or not ledger.run(claims.is_held_in_run, [EXTRACT], run_id):
                    return counts
                watch()
                notified.wait(timing.current().recheck)
                notified.clear()
