"""A row of the fault matrix: how a server misbehaves, which calls that hits, and the promised outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dagster_offload.ledger.core.rows import State
from dagster_offload.stages.graph import CLASSIFY
from tests.faults.play import MISCONFIGURED, NOTHING_LEFT, UNAVAILABLE
from tests.faults.raw_server import Act, Hits

HELD = "holds the stage"
# The calls of healthy documents are answered within this time on a busy machine, too.
SILENT = {"deep_read_timeout": 1.5, "deep_connect_timeout": 1.5}
SLOW, TRIAL_SLOW = "no answer in time", "no answer within 1.5 s"  # if every call is slow, the reason is the trial's
CLOSED = "the server closed the connection before its answer was complete"
WORD = "upstream_cold"


@dataclass(frozen=True)
class Promise:
    """The outcome that a row must have."""

    state: State  # of the first document, which the fault hits
    reason: str  # part of the slot's reason, or of the document's if one document is hit; "" = no reason
    exit_code: int
    most_calls: int  # completions in the first drain, with trials; if one document is hit, all of that document's
    attempts: int = 0
    wait_seconds: float | None = None  # the wait that the ledger stores for the slot's Retry-After
    plain_reason: str | None = None  # if the reason differs with plain httpx

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason else ""
        wait = f", wait {self.wait_seconds} s" if self.wait_seconds is not None else ""
        return (
            f"{self.state}{reason}, attempts {self.attempts}, exit {self.exit_code}, calls <= {self.most_calls}{wait}"
        )


@dataclass(frozen=True)
class Row:
    """One kind of fault, the calls it hits, and the promise."""

    name: str
    act: Act
    hits: Hits
    promise: Promise
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_plain_too: bool = False  # faults below HTTP also run with plain httpx
    port_state: str = "open"
    health: Act | None = None
    host: str = "127.0.0.1"
    scheme: str = "http"
    stage: str = CLASSIFY
    is_mended_at_server: bool = False  # no setting changes: the fault ends at the server
    sensor: str | None = None  # with a closed breaker: why the drain sensor launches no drain; "" = it launches one

    @property
    def id(self) -> str:
        return f"{self.name}: {self.hits}"


def deferred(reason: str, calls: int = 1, plain: str | None = None) -> Promise:
    """A slot fault: the work is deferred and costs no attempt."""
    return Promise(State.DEFERRED, reason, UNAVAILABLE, calls, plain_reason=plain)


def trial_failed(reason: str, calls: int = 2) -> Promise:
    """A slot fault that a trial confirms."""
    return Promise(State.DEFERRED, reason, UNAVAILABLE, calls)


def wrong(reason: str, calls: int = 2) -> Promise:
    """A slot fault that needs a changed setting, or a fault of the stage."""
    state = State.PENDING if reason == HELD else State.DEFERRED  # attempts are refunded
    return Promise(state, reason, MISCONFIGURED, calls)


def done(calls: int = 1) -> Promise:
    """The document is done."""
    return Promise(State.DONE, "", NOTHING_LEFT, calls)


def fails(reason: str, calls: int = 3) -> Promise:
    """A document fault: three attempts."""
    return Promise(State.FAILED, reason, NOTHING_LEFT, calls, attempts=3)


def quarantined(reason: str, plain: str | None = None) -> Promise:
    """One call beside others, then at most three alone."""
    return Promise(State.QUARANTINED, reason, NOTHING_LEFT, 4, plain_reason=plain)


def waits(reason: str, calls: int = 9) -> Promise:
    """Deferred while the slot refuses it. It runs after the others and costs no attempt."""
    return Promise(State.DEFERRED, reason, NOTHING_LEFT, calls)


def twice(name: str, act: Act, for_all: Promise, for_one: Promise, **more: Any) -> list[Row]:
    """Two rows: the fault hits every call and is the slot's, or hits one document and is the document's."""
    return [Row(name, act, Hits.ALL, for_all, **more), Row(name, act, Hits.ONE, for_one, **more)]
