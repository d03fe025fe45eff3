"""What a process says about an outage of Postgres: one line, whichever of its threads meets it first."""

import logging
import math
import threading
import time
from collections.abc import Callable

import psycopg
from psycopg.rows import Row

logger = logging.getLogger(__name__)

POOL_NAME = "dagster_offload's ledger"

# At least this long between two lines about one outage, and only if its cause has changed.
SAY_AGAIN_SECONDS = 60.0


class LedgerConnection(psycopg.Connection[Row]):
    """A connection of a ledger, so that the driver's lines about it can be told from those about others."""


class _NotOfLedgers(logging.Filter):
    """Leaves out warnings of psycopg about connections of ledgers: they show the driver's own words. `Outage.report` writes ours.

    Warnings about other connections of this process, such as those of the user's own code, pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        about = record.args if isinstance(record.args, tuple) else ()
        is_of_ledger = any(
            isinstance(getattr(each, "connection", each), LedgerConnection) or POOL_NAME in str(each) for each in about
        )  # the name is also part of the names of the pool's threads and tasks
        return record.levelno >= logging.ERROR or not is_of_ledger


# A filter does not apply to the loggers below.
for _logger in ("psycopg", "psycopg.pool", "psycopg.transaction", "psycopg_pool.sched"):
    logging.getLogger(_logger).addFilter(_NotOfLedgers())


class Outage:
    """Whether Postgres is unavailable to a ledger, and what was said about that. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: str | None = None  # the one said last; None: Postgres is available
        self._said_at = self._failed_at = self._available_at = -math.inf  # on the monotonic clock

    def report(self, place: str, cause_of: Callable[[], str], consequence: str, began: float) -> None:
        """Log that Postgres at `place` is unavailable, once for each outage. `cause_of` may take seconds.

        `began`: when the failed attempt began, on the monotonic clock. If Postgres was available after that, it shows nothing.
        """
        if began < self._available_at:
            return
        failed_at = self._failed_at = time.monotonic()
        if not self._lock.acquire(blocking=False):  # another thread is saying it
            return
        try:
            if self._cause is not None and time.monotonic() - self._said_at < SAY_AGAIN_SECONDS:
                return
            cause = cause_of()
            if cause != self._cause:
                logger.warning("Postgres is unavailable at %s (%s); %s", place, cause, consequence)
            self._said_at = time.monotonic()
            # The outage may have ended while its cause was looked for.
            self._cause = cause if self._available_at < failed_at else None
        finally:
            self._lock.release()

    def end(self, began: float) -> None:
        """Postgres did what it was asked at `began`, on the monotonic clock."""
        if began > self._failed_at:
            self._available_at, self._cause = time.monotonic(), None
