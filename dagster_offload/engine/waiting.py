"""The wait of a run that was put off: it sleeps on the ledger's notifications until there is a reason to go on.

It holds one database connection and no claim, no permit and no worker. A Postgres that goes away during the wait does not
end it, and is not started from here: whoever runs the home does that.
"""

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from enum import StrEnum

from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection, Ledger
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.work import outbox, waiting_runs
from dagster_offload.ledger.work.waiting_runs import WaitingRun

logger = logging.getLogger(__name__)

# A cancel must be noticed within a second. One round costs 0.1 ms.
CHECK_STOP_SECONDS = 0.5
# Without a notification: documents done by a worker that records nothing in Dagster, or a lost notification.
CHECK_EVERY_SECONDS = 10.0
RECONNECT_SECONDS = 2.0


class WaitEnd(StrEnum):
    """Why a wait is over."""

    SLOT_ANSWERS = "the slot answers again"
    DOCUMENTS_DONE = "another worker has finished its documents"
    TIME_IS_UP = "the wait is over"
    STOPPED = "it was stopped"


def reason_to_go_on(waiting: WaitingRun | None) -> WaitEnd | None:
    """Decide from what the ledger says; None = wait on. A wait the ledger knows nothing of ends by time alone."""
    if waiting is None:
        return None
    if waiting.is_done:
        return WaitEnd.DOCUMENTS_DONE
    if waiting.breaker is BreakerState.CLOSED:
        return WaitEnd.SLOT_ANSWERS
    return None


def wait_for_work(
    open_ledger: Callable[[], AbstractContextManager[Ledger]],
    run_id: str,
    seconds: float,
    is_stopped: Callable[[], bool],
) -> WaitEnd:
    """Block until the slot answers, the run's documents are done, `seconds` are over, or `is_stopped()`.

    `is_stopped` is called twice a second. Uses next to no processor time.
    """
    deadline = time.monotonic() + seconds
    with ExitStack() as stack:
        ledger = None
        while True:
            try:
                ledger = ledger or stack.enter_context(open_ledger())
                with ledger.connect() as connection:
                    for channel in (ledger.channel, f"{ledger.channel}{outbox.RECORDED_CHANNEL_SUFFIX}"):
                        connection.execute(f"listen {channel}".encode())
                    return _watch(connection, run_id, deadline, is_stopped)
            except (*CONNECTION_LOST, OffloadError) as error:
                logger.warning("run %s waits without its ledger: %s", run_id, error)
            if (end := _sleep(min(time.monotonic() + RECONNECT_SECONDS, deadline), is_stopped)) is not None:
                return end
            if time.monotonic() >= deadline:
                return WaitEnd.TIME_IS_UP


def _watch(connection: Connection, run_id: str, deadline: float, is_stopped: Callable[[], bool]) -> WaitEnd:
    while True:
        with connection.cursor() as cursor:
            reason = reason_to_go_on(waiting_runs.find(cursor, run_id))
        if reason is not None:
            return reason
        next_look = min(time.monotonic() + CHECK_EVERY_SECONDS, deadline)
        is_notified = False
        while not is_notified and (left := next_look - time.monotonic()) > 0:
            if is_stopped():
                return WaitEnd.STOPPED
            is_notified = _is_notified(connection, min(left, CHECK_STOP_SECONDS))
        if time.monotonic() >= deadline:
            return WaitEnd.TIME_IS_UP


def _sleep(until: float, is_stopped: Callable[[], bool]) -> WaitEnd | None:
    while (left := until - time.monotonic()) > 0:
        if is_stopped():
            return WaitEnd.STOPPED
        time.sleep(min(left, CHECK_STOP_SECONDS))
    return None


def _is_notified(connection: Connection, seconds: float) -> bool:
    """Whether a breaker or recorded results changed, as soon as one did; False after `seconds`."""
    return any(
        notification.channel.endswith(outbox.RECORDED_CHANNEL_SUFFIX) or notification.payload.startswith("breaker:")
        for notification in connection.notifies(timeout=seconds, stop_after=1)
    )
