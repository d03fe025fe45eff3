"""A sender that stays: a thread per sink, which sleeps until the ledger notifies it or a delivery is due."""

import logging
import selectors
import socket
import threading
from contextlib import closing, suppress

from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection, Ledger
from dagster_offload.ledger.sinks import deliveries, sinks
from dagster_offload.settings import Settings
from dagster_offload.sinks.build import Sink
from dagster_offload.sinks.sender import send_due, sending_to

logger = logging.getLogger(__name__)

# For a lost notification, and for a sink whose records another process sends.
LOOK_AGAIN_SECONDS = 60.0
RECONNECT_SECONDS = 5.0
STOP_SECONDS = 2.0


class SinkThread:
    """Sends to one sink until `stop`. Costs nothing while there is nothing to send, except two connections to Postgres."""

    def __init__(self, settings: Settings, ledger: Ledger, name: str, sink: Sink) -> None:
        self._settings = settings
        self._ledger = ledger
        self._name = name
        self._sink = sink
        self._stopped = threading.Event()
        self._woken, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread, or leave it if a request takes longer. A record in flight is sent again at the next start."""
        self._stopped.set()
        with suppress(OSError):  # the thread has ended
            self._waker.send(b"x")
        self._sink.cancel()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        with closing(self._woken), closing(self._waker), closing(self._sink):
            while not self._stopped.is_set():
                try:
                    with self._ledger.connect() as connection:
                        connection.execute(f"listen {self._ledger.channel}{sinks.CHANNEL_SUFFIX}".encode())
                        self._send_while_connected(connection)
                except (*CONNECTION_LOST, OffloadError) as error:
                    if not self._stopped.is_set():
                        logger.warning("sink %s cannot use the ledger, will reconnect: %s", self._name, error)
                except Exception:  # a bug must not end the sender for good
                    logger.exception("sink %s: the sender failed, will start again", self._name)
                self._stopped.wait(RECONNECT_SECONDS)

    def _send_while_connected(self, connection: Connection) -> None:
        while not self._stopped.is_set():
            seconds: float | None = LOOK_AGAIN_SECONDS
            with sending_to(connection, self._ledger.schema, self._name) as is_only_sender:
                while is_only_sender and not self._stopped.is_set():
                    send_due(self._settings, self._ledger, self._name, self._sink, self._stopped.is_set)
                    seconds = self._ledger.run(deliveries.seconds_to_next, self._name)
                    self._wait(connection, seconds)
            self._wait(connection, seconds)

    def _wait(self, connection: Connection, seconds: float | None) -> None:
        """Return at a notification, at a stop, or after `seconds`."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            selector.select(LOOK_AGAIN_SECONDS if seconds is None else min(seconds, LOOK_AGAIN_SECONDS))
        for _ in connection.notifies(timeout=0):
            pass
