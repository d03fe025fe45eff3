"""A sender that stays: a thread per sink or channel, which sleeps until the ledger notifies it or a delivery is due."""

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Protocol

from dagster_offload.errors import LedgerUnavailable, OffloadError
from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection, Ledger
from dagster_offload.postgres.outages import is_outage
from dagster_offload.sinks.sender import sending_to
from dagster_offload.text.lines import first_line

logger = logging.getLogger(__name__)

# For a lost notification, and for a sink whose records another process sends.
LOOK_AGAIN_SECONDS = 60.0
RECONNECT_SECONDS = 5.0
STOP_SECONDS = 2.0


class Job(Protocol):
    """The sender of one sink, or of one channel of notifications."""

    @property
    def title(self) -> str:
        """What logs call it."""

    @property
    def lock(self) -> str:
        """The lock that the only sender holds."""

    @property
    def notified_on(self) -> str:
        """The channel of Postgres on which the ledger says that there may be something to send."""

    @property
    def pause(self) -> float:
        """Seconds between two rounds at least."""

    def run(self, is_stopped: Callable[[], bool]) -> float | None:
        """Send what is due. Returns seconds until something is due again; None: when the ledger sends a notification."""

    def cancel(self) -> None:
        """End a request in flight early, where that is possible."""


class SenderThread:
    """Runs a job until `request_stop`. Costs nothing while there is nothing to send, except two connections to Postgres."""

    def __init__(self, ledger: Ledger, job: Job) -> None:
        self._ledger = ledger
        self._job = job
        self._stopped = threading.Event()
        self._woken, self._waker = socket.socketpair()
        self._began = time.monotonic()  # the present step
        self._thread = threading.Thread(target=self._run, name=job.title, daemon=True)
        self._thread.start()

    def request_stop(self) -> None:
        """Let the thread end soon. A record in flight is sent again at the next start."""
        self._stopped.set()
        with suppress(OSError):  # the thread has ended
            self._waker.send(b"x")
        self._job.cancel()

    def join(self, seconds: float) -> None:
        """Wait for its end, at most this long: a request that takes longer is left alone."""
        self._thread.join(seconds)

    def _run(self) -> None:
        with closing(self._woken), closing(self._waker):
            while not self._stopped.is_set():
                self._began = time.monotonic()
                try:
                    with self._ledger.connect() as connection:
                        connection.execute(f"listen {self._job.notified_on}".encode())
                        self._send_while_connected(connection)
                except (*CONNECTION_LOST, LedgerUnavailable) as error:
                    self._report(error.__cause__ or error)
                except OffloadError as error:
                    self._warn(str(error))
                except Exception:  # a bug must not end the sender for good
                    logger.exception("%s: the sender failed, will start again", self._job.title)
                self._stopped.wait(RECONNECT_SECONDS)

    def _report(self, error: BaseException) -> None:
        if not is_outage(error):
            self._warn(first_line(error))
        elif not self._stopped.is_set():
            self._ledger.report_outage(error, self._began)

    def _warn(self, reason: str) -> None:
        if not self._stopped.is_set():
            logger.warning("%s cannot use the ledger, will reconnect: %s", self._job.title, reason)

    def _send_while_connected(self, connection: Connection) -> None:
        while not self._stopped.is_set():
            seconds: float | None = LOOK_AGAIN_SECONDS
            with sending_to(connection, self._ledger.schema, self._job.lock) as is_only_sender:
                while is_only_sender and not self._stopped.is_set():
                    self._began = time.monotonic()
                    seconds = self._job.run(self._stopped.is_set)
                    self._wait(connection, seconds)
            self._wait(connection, seconds)

    def _wait(self, connection: Connection, seconds: float | None) -> None:
        """Return at a notification, at a stop, or after `seconds`."""
        self._began = time.monotonic()
        if self._job.pause and self._stopped.wait(self._job.pause):
            return
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            selector.select(LOOK_AGAIN_SECONDS if seconds is None else min(seconds, LOOK_AGAIN_SECONDS))
        for _ in connection.notifies(timeout=0):
            pass


def stop_all(threads: Sequence[SenderThread]) -> None:
    """End all of them within two seconds."""
    for thread in threads:
        thread.request_stop()
    deadline = time.monotonic() + STOP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
