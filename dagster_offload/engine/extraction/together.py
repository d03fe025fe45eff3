"""Extracts together with other steps of one run, on any hosts, until nothing is left. The ledger is the only coordination."""

import logging
import math
import threading
import time
from collections.abc import Callable

from dagster_offload import timing
from dagster_offload.engine.extraction.host import LibraryWatch, refuse_unfit_host
from dagster_offload.engine.extraction.run import extract_due
from dagster_offload.engine.progress import Progress, ProgressCounts
from dagster_offload.errors import HostRefused, LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker, lock_alive
from dagster_offload.ledger.work import left
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import EXTRACT

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # between two looks at Postgres
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
    A host that was cut off from Postgres, or whose work was reclaimed meanwhile, registers anew and goes on.

    `stop_if_ended` is called about every second, and raises if the run has ended. Raises `HostRefused` if this host may not
    take part, or loses the library, and `LedgerUnavailable` if it is cut off for `timing.cut_off` seconds.
    """
    if settings.library is None:
        raise HostRefused("no library: set OFFLOAD_LIBRARY")
    library = LibraryWatch(settings.library)

    def watch() -> None:
        stop_if_ended()
        library.refuse_if_lost()

    counts, give_up_at = ProgressCounts(), math.inf
    while True:
        try:
            refuse_unfit_host(settings, ledger)
            with Worker(ledger, EXTRACT_WORKER, [EXTRACT], run_id) as worker:
                give_up_at = math.inf
                if _extract_until_lost(settings, ledger, worker, counts, on_progress, watch):
                    return counts
        except LedgerUnavailable as error:
            give_up_at = min(give_up_at, time.monotonic() + timing.current().cut_off)
            if time.monotonic() >= give_up_at:
                raise
            logger.warning("%s; this step registers anew when Postgres answers", error)
            stop_if_ended()
            time.sleep(PAUSE_SECONDS)
        except HostRefused:
            # A failed step fails the run, and with it the steps of other hosts.
            while ledger.run(left.is_held_in_run, [EXTRACT], run_id):
                stop_if_ended()
                time.sleep(PAUSE_SECONDS)
            raise


def _extract_until_lost(
    settings: Settings,
    ledger: Ledger,
    worker: Worker,
    counts: ProgressCounts,
    on_progress: Progress | None,
    watch: Callable[[], None],
) -> bool:
    """Extract until nothing is left in the run, and add to `counts`. Returns False if the worker was reclaimed before."""
    run_id = worker.run_id or ""
    notified = threading.Event()
    worker.on_notify(lambda _: notified.set())
    while not worker.is_lost:
        added = extract_due(settings, ledger, worker, on_progress=on_progress, watch=watch)
        counts.add(added)
        if added.machine_fault is not None:
            return True
        if not ledger.run(left.is_held_in_run, [EXTRACT], run_id):
            return ledger.run(lock_alive, worker.id)  # a worker that was reclaimed is given nothing, whatever is left
        watch()
        notified.wait(timing.current().recheck)
        notified.clear()
    return False
