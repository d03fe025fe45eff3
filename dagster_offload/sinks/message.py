"""What a sink is sent: a record with the key of its delivery. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from dagster_offload.ledger.sinks.deliveries import Delivery

SAMPLE_KEY = "sample"


class Sendable(Protocol):
    """What programs and webhooks take: JSON, and a key that is the same at each attempt."""

    @property
    def key(self) -> str:
        """The key."""

    @property
    def body(self) -> bytes:
        """The JSON."""


@dataclass(frozen=True)
class Message:
    """One record for one sink. `key` is the same at each attempt, so a receiver can recognize a repetition.

    `written` is what this sink has written elsewhere for the document before, and `maybe_written` what an attempt that failed
    may have written since. `will_write` stores what is about to be written: call it first. `is_sample`: sent by `sink test`.
    """

    key: str
    sink: str
    document: str
    version: str
    record: Mapping[str, Any] = field(repr=False)
    digest: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict, repr=False)
    maybe_written: Mapping[str, Any] = field(default_factory=dict, repr=False)
    will_write: Callable[[Mapping[str, Any]], None] = field(default=lambda _: None, repr=False, compare=False)
    is_sample: bool = False

    @property
    def body(self) -> bytes:
        """The JSON that commands read and webhooks get: the same bytes at each attempt."""
        content = {
            "event": "sample" if self.is_sample else "record",
            "idempotency_key": self.key,
            "sink": self.sink,
            "document": self.document,
            "version": self.version,
            "record": dict(self.record),
        }
        return json.dumps(content, ensure_ascii=False, sort_keys=True).encode()


def message_of(delivery: Delivery, will_write: Callable[[Mapping[str, Any]], None]) -> Message:
    """The message of a delivery."""
    return Message(
        key=delivery.key,
        sink=delivery.sink,
        document=delivery.document,
        version=delivery.version,
        record=delivery.record,
        digest=delivery.digest,
        written=delivery.written or {},
        maybe_written=delivery.maybe_written or {},
        will_write=will_write,
    )


def sample(sink: str, record: Mapping[str, Any]) -> Message:
    """A message that shows a receiver the form of the real ones."""
    return Message(SAMPLE_KEY, sink, str(record["document"]), SAMPLE_KEY, record, is_sample=True)
