"""What a channel is sent: one message with its key. Pure."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster_offload.host.machine import host_name
from dagster_offload.ledger.sinks.notifications import DueNotification

SAMPLE = "sample"


@dataclass(frozen=True)
class ChannelMessage:
    """One message for one channel. `key` is the same at each attempt, so a receiver can recognize a repetition.

    `at` is when the event was seen. `event` is done, needs_you, misconfigured, away, or `sample` for `notify test`.
    """

    key: str
    channel: str
    event: str
    title: str
    message: str
    host: str
    at: datetime

    @property
    def subject(self) -> str:
        """The title with the program and the machine, for a screen on which others notify, too."""
        return f"dagster-offload on {self.host}: {self.title}"

    @property
    def body(self) -> bytes:
        """The JSON that commands read and webhooks get: the same bytes at each attempt on one machine."""
        content = {
            "event": self.event,
            "idempotency_key": self.key,
            "channel": self.channel,
            "title": self.subject,
            "message": self.message,
            "host": self.host,
            "at": self.at.astimezone(UTC).isoformat(timespec="seconds"),
        }
        return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def message_of(channel: str, due: DueNotification) -> ChannelMessage:
    """The message of a notification that is due."""
    return ChannelMessage(due.key, channel, due.event, due.title, due.message, host_name(), due.created_at)


def sample(channel: str) -> ChannelMessage:
    """A message that shows a receiver the form of the real ones."""
    message = "This is a test of dagster-offload. Real messages look like this one."
    return ChannelMessage(SAMPLE, channel, SAMPLE, "a test", message, host_name(), datetime.now(UTC))
