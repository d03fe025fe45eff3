"""What a process says about an outage of Postgres: one line, whichever of its threads meets it first."""

import logging
import math
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)

# psycopg and its pool write a line for each connection that fails, and it may be raw. `Outage.report` writes ours.
logging.getLogger("psycopg").setLevel(logging.ERROR)

# At least this long between two lines about one outage, and only if its cause has changed.
SAY_AGAIN_SECONDS = 60.0


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
