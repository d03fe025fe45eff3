"""Rows of the ledger as frozen values, and the states a work item can be in."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dagster_offload.slot.config import without_password
from dagster_offload.stages.graph import Outcome


class State(StrEnum):
    """Where a work item stands."""

    PENDING = "pending"  # may be claimed once `not_before` is reached
    CLAIMED = "claimed"  # a worker holds it
    DEFERRED = "deferred"  # put off because the slot is away
    DONE = "done"  # has a result
    FAILED = "failed"  # three attempts; only a person's `retry` moves it
    QUARANTINED = "quarantined"  # cuts every call or kills its worker; only a person's `retry` moves it
    GONE = "gone"  # the file is gone; results are kept


class BreakerState(StrEnum):
    CLOSED = "closed"  # calls flow
    OPEN = "open"  # the slot is away; a trial decides when it is back
    MISCONFIGURED = "misconfigured"  # refused with an error that a person mends, most likely; asked again, slowly


@dataclass(frozen=True)
class ClaimedItem:
    item_id: int
    stage: str
    input_digest: str
    recipe: str
    attempts: int
    deferrals: int
    part_sizes: list[list[int]] | None = None  # how its document was split before; see `stages/long_documents.py`


@dataclass(frozen=True)
class Claim:
    """A worker's hold on one document's due work items, in declared order of stages."""

    token: int
    document_id: int
    document: str
    is_alone: bool
    text: str | None = field(repr=False)  # the extracted text, for LLM stages
    items: tuple[ClaimedItem, ...]  # empty where every due item could reuse a result


@dataclass(frozen=True)
class CallRecord:
    """One completion, as it goes into `calls`. `outcome` is `ok` or the fault's one word."""

    slot: str
    epoch: int
    asked_model: str
    seconds: float
    outcome: str
    served_model: str | None = None
    model_evidence: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int | None = None
    part: str | None = None  # `part 7 of 400`; None = about a whole document


@dataclass(frozen=True)
class NewResult:
    """What a finished work item brings: `text` for extract, `value` for LLM stages.

    `in_all` is the last call with the tokens and seconds of all that led to it, where these were kept before.
    `seconds` is how long extract took; LLM stages have the seconds of their calls.
    """

    outcome: Outcome
    output_digest: str
    text: str | None = None
    value: dict[str, Any] | None = None
    calls: tuple[CallRecord, ...] = ()
    in_all: CallRecord | None = None
    seconds: float | None = None


# What is said instead of a time to come, where `SlotRow.is_retry_due`: a time that passed tells of a look nobody took.
CHECKED_AT_THE_NEXT_TICK = "to be asked at the next look (a running up, or dagster-offload drain)"


@dataclass(frozen=True)
class SlotRow:
    """A slot as the ledger knows it. Times are the database's."""

    name: str
    url: str = field(repr=False)  # it may hold a password
    model: str
    permits: int
    breaker: BreakerState
    epoch: int
    reason: str | None
    reason_since: datetime | None
    retry_at: datetime | None
    refusal_wait_seconds: float | None
    was_red_since_opening: bool
    is_retry_due: bool  # `retry_at` is reached
    is_trial_running: bool
    is_auto: bool = False  # `permits` is found by trying
    places: int | None = None  # documents in flight its server can keep; None = not known
    places_from: str | None = None  # person | server
    width_found: dict[str, Any] | None = None  # the last width trying settled at; see `width.py` in this folder

    @property
    def shown_url(self) -> str:
        return without_password(self.url)

    @property
    def reason_text(self) -> str:
        """`upstream_cold since 14:02`, by this machine's clock."""
        return f"{self.reason} since {self.reason_since.astimezone():%H:%M}" if self.reason_since else str(self.reason)

    @property
    def width(self) -> int:
        """Calls open at once: a document has one at a time, so N and the places both bound it."""
        return self.permits if self.places is None else min(self.permits, self.places)


@dataclass(frozen=True)
class PendingEvent:
    """One materialization Dagster has not been told yet, with everything its metadata shows."""

    event_id: int
    result_id: int
    document: str
    stage: str
    run_id: str | None
    is_in_doubt: bool  # may have been stored before a crash
    outcome: str
    output_digest: str
    recipe: str
    text_preview: str | None  # extract: the first 500 characters
    text_length: int | None
    value: dict[str, Any] | None
    slot: str | None
    served_model: str | None
    model_evidence: str | None
    tokens_in: int | None
    tokens_out: int | None
    tokens_cached: int | None
    seconds: float | None
    attempts: int
    deferrals: int
    reused_from: str | None
    created_at: datetime


@dataclass(frozen=True)
class StageCounts:
    """Work items of one stage by state. All but `outdated` (a part of done) add up to the documents present whose upstream
    is done."""

    pending: int = 0
    claimed: int = 0
    deferred: int = 0
    done: int = 0
    failed: int = 0
    quarantined: int = 0
    outdated: int = 0
