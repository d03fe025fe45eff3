"""The wait of a deferred run: it waits for a notification of the ledger until it has a reason to continue.

A waiting run holds one database connection, and no claim, no permit and no worker. If Postgres becomes unavailable, the
wait continues; it does not start Postgres, which belongs to the process that runs the home.
"""

import logging
import selectors
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import StrEnum

from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection, Ledger
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.slots.rests import PAUSE_MESSAGE
from dagster_offload.ledger.slots.slots import BREAKER_MESSAGE
from dagster_offload.ledger.work import waiting_runs
from dagster_offload.ledger.work.waiting_runs import WaitingRun
from dagster_offload.postgres.outages import is_outage
from dagster_offload.text.lines import first_line

logger = logging.getLogger(__name__)

# A cancel must be noticed within a second. One check costs 0.1 ms.
CHECK_STOP_SECONDS = 0.5
# For changes without a notification: a worker that records nothing in Dagster, or a lost notification.
CHECK_EVERY_SECONDS = 10.0
RECONNECT_SECONDS = 2.0


class WaitEnd(StrEnum):
    """Why a wait ended."""

    SLOT_ANSWERS = "the slot answers again"
    REST_IS_OVER = "the slot may be used again"
    DOCUMENTS_DONE = "another worker has finished its documents"
    TIME_IS_UP = "the wait is over"
    STOPPED = "it was stopped"


def reason_to_continue(waiting: WaitingRun | None) -> WaitEnd | None:
    """Decide from the ledger's row; None = keep waiting. Without a row only the time limit ends the wait."""
    if waiting is None:
        return None
    if waiting.is_done:
        return WaitEnd.DOCUMENTS_DONE
    if waiting.is_rest_over:
        return WaitEnd.REST_IS_OVER
    if waiting.breaker is BreakerState.CLOSED and not waiting.is_held:
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
    watch = _Watch(run_id, deadline, is_stopped)
    with ExitStack() as stack:
        ledger = None
        while True:
            watch.began = time.monotonic()
            try:
                ledger = ledger or stack.enter_context(open_ledger())
                with ledger.connect() as connection:
                    ledger.outage.end(watch.began)
                    for channel in (ledger.channel, f"{ledger.channel}{outbox.RECORDED_CHANNEL_SUFFIX}"):
                        connection.execute(f"listen {channel}".encode())
                    return watch.until_end(connection)
            except (*CONNECTION_LOST, OffloadError) as error:
                if ledger is not None and isinstance(error, CONNECTION_LOST) and is_outage(error):
                    ledger.report_outage(error, watch.began)
                else:
                    reason = str(error) if isinstance(error, OffloadError) else first_line(error)
                    logger.warning("run %s is waiting and cannot use the ledger, will reconnect: %s", run_id, reason)
            if (end := _sleep(min(time.monotonic() + RECONNECT_SECONDS, deadline), is_stopped)) is not None:
                return end
            if time.monotonic() >= deadline:
                return WaitEnd.TIME_IS_UP


@dataclass
class _Watch:
    """Looks at the ledger until a run has a reason to continue. `began`: when its present step began, on the monotonic clock."""

    run_id: str
    deadline: float
    is_stopped: Callable[[], bool]
    began: float = 0.0

    def until_end(self, connection: Connection) -> WaitEnd:
        """Return why the wait ended. Raises one of `CONNECTION_LOST`."""
        while True:
            self.began = time.monotonic()
            with connection.cursor() as cursor:
                reason = reason_to_continue(waiting_runs.find(cursor, self.run_id))
            if reason is not None:
                return reason
            next_check = min(time.monotonic() + CHECK_EVERY_SECONDS, self.deadline)
            is_notified = _is_notified(connection)  # by a notification that came beside the query's answer
            while not is_notified and (left := next_check - time.monotonic()) > 0:
                if self.is_stopped():
                    return WaitEnd.STOPPED
                if _has_input(connection, min(left, CHECK_STOP_SECONDS)):
                    is_notified = _is_notified(connection)
            if time.monotonic() >= self.deadline:
                return WaitEnd.TIME_IS_UP


def _sleep(until: float, is_stopped: Callable[[], bool]) -> WaitEnd | None:
    while (left := until - time.monotonic()) > 0:
        if is_stopped():
            return WaitEnd.STOPPED
        time.sleep(min(left, CHECK_STOP_SECONDS))
    return None


def _has_input(connection: Connection, seconds: float) -> bool:
    """Wait until Postgres sends something. A tenth of the processor time of `notifies`, and a run waits for hours."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def _is_notified(connection: Connection) -> bool:
    """Whether a change of a breaker, of a pause or of recorded results was notified. Does not wait."""
    return any(
        notification.channel.endswith(outbox.RECORDED_CHANNEL_SUFFIX)
        or notification.payload.startswith((BREAKER_MESSAGE, PAUSE_MESSAGE))
        for notification in connection.notifies(timeout=0)
    )
