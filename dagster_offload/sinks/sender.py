"""Sends the deliveries of one sink, in order, until none is due.

One sender per sink at a time, over all processes: it holds a lock of Postgres, which is free the moment it dies.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Connection, Cursor, Ledger
from dagster_offload.ledger.core.locks import only_one
from dagster_offload.ledger.sinks import deliveries, sinks
from dagster_offload.ledger.sinks.deliveries import Delivery
from dagster_offload.settings import Settings
from dagster_offload.sinks.build import RecordRecipient
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import message_of
from dagster_offload.sinks.next_try import NextTry, SinkState, after_failure
from dagster_offload.sinks.planning import plan

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

STORE_AGAIN_SECONDS = 1.0  # between two tries, each of which waits for Postgres itself


@dataclass
class Sent:
    """What a sender did: records that arrived, that were refused, and why the sink waits with records, if it does.

    `waits` is also the reason of a wait that began earlier. `is_misconfigured`: it waits for a changed setting, such as a token
    that it refused.
    """

    sent: int = 0
    refused: int = 0
    waits: str | None = None
    is_misconfigured: bool = False


@dataclass(frozen=True)
class SinkJob:
    """The sender of one sink, as a resident thread runs it (`sinks/resident.py`)."""

    settings: Settings
    ledger: Ledger
    name: str
    sink: RecordRecipient
    pause: float = 0.0

    @property
    def title(self) -> str:
        """What logs call it."""
        return f"sink-{self.name}"

    @property
    def lock(self) -> str:
        """The lock of the only sender."""
        return self.name

    @property
    def notified_on(self) -> str:
        """The channel of Postgres on which the ledger says that a record may have changed."""
        return f"{self.ledger.channel}{sinks.CHANNEL_SUFFIX}"

    def run(self, is_stopped: Callable[[], bool]) -> float | None:
        """Send what is due. Returns seconds until the next delivery is due."""
        send_due(self.settings, self.ledger, self.name, self.sink, is_stopped)
        return self.ledger.run(deliveries.seconds_to_next, self.name)

    def cancel(self) -> None:
        """End a record in flight."""
        self.sink.cancel()


def sending_to(connection: Connection, schema: str, name: str) -> AbstractContextManager[bool]:
    """Become the only sender of a sink in the block; yields False if another one runs."""
    return only_one(connection, "sink", f"{schema} {name}")


@contextmanager
def only_sender(ledger: Ledger, name: str) -> Iterator[bool]:
    """`sending_to` for a command, on a connection of its own. Raises `LedgerUnavailable`."""
    with (
        closing(ledger.retry_until_available(ledger.connect)) as connection,
        sending_to(connection, ledger.schema, name) as is_only_sender,
    ):
        yield is_only_sender


def send_due(
    settings: Settings, ledger: Ledger, name: str, sink: RecordRecipient, is_stopped: Callable[[], bool] = lambda: False
) -> Sent:
    """Send what is due at this sink. The caller must be its only sender. Raises `LedgerUnavailable`."""
    done = Sent()
    while done.waits is None and not is_stopped():
        while not is_stopped() and plan(settings, ledger):
            pass
        delivery = ledger.run(deliveries.next_due, name)
        if delivery is None:
            done.waits, done.is_misconfigured = ledger.run(sinks.reason_to_wait, name)
            return done
        if not is_stopped():
            _send(ledger, sink, delivery, done, is_stopped)
    return done


def store_outcome(
    ledger: Ledger,
    is_stopped: Callable[[], bool],
    step: Callable[Concatenate[Cursor, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Store how a sending ended. Waits as long as Postgres is unavailable or its disk is full: what was sent would be sent again.

    Raises `LedgerUnavailable` once the sender is stopped. Then the same is sent again after the next start.
    """
    while True:
        try:
            return ledger.run(step, *args, **kwargs)
        except LedgerUnavailable as error:
            if is_stopped():
                raise
            logger.warning(
                "waiting to record what was just sent, and sending nothing else meanwhile: %s. If you stop, the same is sent "
                "again at the next start",
                error,
            )
            time.sleep(STORE_AGAIN_SECONDS)


def _send(
    ledger: Ledger, sink: RecordRecipient, delivery: Delivery, done: Sent, is_stopped: Callable[[], bool]
) -> None:
    try:
        written = sink.send(message_of(delivery, lambda values: _store_intent(ledger, delivery, values)))
    except SinkFault as fault:
        if is_stopped():  # the stop may have ended it, which is no refusal: it is sent again after the next start
            return
        decided = store_outcome(ledger, is_stopped, _store_failure, delivery, fault)
        logger.info("sink %s: %s", delivery.sink, decided.reason)
        done.refused += decided.is_refusal
        done.waits = decided.reason if decided.sink_wait is not None else None
        done.is_misconfigured = done.waits is not None and fault.blame is Blame.MISCONFIGURED
        return
    store_outcome(ledger, is_stopped, _store_success, delivery, written)
    done.sent += 1


def _store_intent(ledger: Ledger, delivery: Delivery, values: Mapping[str, Any]) -> None:
    ledger.run(deliveries.will_write, delivery.delivery_id, values)


def _store_success(cur: Cursor, delivery: Delivery, written: Mapping[str, Any] | None) -> None:
    deliveries.mark_sent(cur, delivery, written)
    sinks.clear_wait(cur, delivery.sink)


def _store_failure(cur: Cursor, delivery: Delivery, fault: SinkFault) -> NextTry:
    waits, refusals = sinks.in_a_row(cur, delivery.sink)
    state = SinkState(waits, refusals)
    decided = after_failure(fault, state, delivery.attempts, is_behind_others=delivery.is_behind_others)
    if decided.is_refusal:
        deliveries.refuse(cur, delivery.delivery_id, decided.reason, decided.record_wait, counts=decided.counts)
    waiting = decided.reason if decided.sink_wait is not None else None
    sinks.store_wait(
        cur,
        delivery.sink,
        decided.sink_wait,
        waiting,
        decided.state.waits,
        decided.state.refusals,
        is_misconfigured=waiting is not None and fault.blame is Blame.MISCONFIGURED,
    )
    return decided
