"""Sends the messages of one channel, oldest first, until none is due. The caller must be its only sender."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.sinks import notifications
from dagster_offload.ledger.sinks.notifications import DueNotification
from dagster_offload.notify.build import Channel
from dagster_offload.notify.channel_message import message_of
from dagster_offload.notify.look import look
from dagster_offload.settings import Settings
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.next_try import SinkState, after_failure
from dagster_offload.sinks.sender import store_outcome

logger = logging.getLogger(__name__)

# A drain changes the ledger many times a second.
LOOK_EVERY_SECONDS = 2.0


def lock_name(channel: str) -> str:
    """The lock of a channel's only sender. No sink has a name with a space."""
    return f"notify {channel}"


@dataclass
class NotifyJob:
    """The sender of one channel, as a resident thread runs it (`sinks/resident.py`)."""

    settings: Settings
    ledger: Ledger
    name: str
    channel: Channel
    pause: float = LOOK_EVERY_SECONDS

    @property
    def title(self) -> str:
        """What logs call it."""
        return f"notify.{self.name}"

    @property
    def lock(self) -> str:
        """The lock of the only sender."""
        return lock_name(self.name)

    @property
    def notified_on(self) -> str:
        """The channel of Postgres on which the ledger says that it changed."""
        return self.ledger.channel

    def run(self, is_stopped: Callable[[], bool]) -> float | None:
        """Look at the ledger once and send what is due. Returns seconds until something is due again."""
        again = look(self.ledger, self.name, self.settings)
        send_due(self.ledger, self.name, self.channel, is_stopped)
        due = self.ledger.run(notifications.seconds_to_next, self.name)
        return min((seconds for seconds in (again, due) if seconds is not None), default=None)

    def cancel(self) -> None:
        """End a message in flight."""
        self.channel.cancel()


def send_due(ledger: Ledger, name: str, channel: Channel, is_stopped: Callable[[], bool] = lambda: False) -> int:
    """Send what is due. Returns how many messages arrived. Raises `LedgerUnavailable`."""
    sent = 0
    while (due := ledger.run(notifications.next_due, name)) is not None and not is_stopped():
        sent += _send(ledger, name, channel, due, is_stopped)
    return sent


def _send(ledger: Ledger, name: str, channel: Channel, due: DueNotification, is_stopped: Callable[[], bool]) -> bool:
    """Send a message. Returns whether it arrived."""
    try:
        channel.send(message_of(name, due))
    except SinkFault as fault:
        if is_stopped():  # the stop may have ended it, which is no refusal: it is sent again after the next start
            return False
        decided = after_failure(fault, SinkState(due.waits), due.attempts)
        logger.info("notify.%s: %s", name, decided.reason)
        seconds = decided.record_wait if decided.counts else decided.sink_wait
        store_outcome(
            ledger,
            is_stopped,
            notifications.store_failure,
            due.notification_id,
            decided.reason,
            seconds,
            is_refusal=decided.counts,
            is_misconfigured=fault.blame is Blame.MISCONFIGURED,
        )
        return False
    store_outcome(ledger, is_stopped, notifications.mark_sent, due.notification_id)
    return True
