"""Rows of the ledger as frozen values, and the states a work item can be in."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA
from dagster_offload.slot.config import without_password
from dagster_offload.stages.graph import Outcome
from dagster_offload.text.times import shown_moment


class State(StrEnum):
    """The state of a work item."""

    PENDING = "pending"  # may be claimed once `not_before` is reached
    CLAIMED = "claimed"  # a worker holds it
    DEFERRED = "deferred"  # waits because the slot is unavailable
    DONE = "done"  # has a result
    FAILED = "failed"  # three attempts were spent; only the command `retry` moves it
    QUARANTINED = "quarantined"  # cuts every call or kills its worker; only the command `retry` moves it
    GONE = "gone"  # the file is gone; results are kept


class BreakerState(StrEnum):
    """The state of a slot's circuit breaker."""

    CLOSED = "closed"  # calls flow
    OPEN = "open"  # the slot is unavailable; a trial shows when it is back
    MISCONFIGURED = "misconfigured"  # the error most likely needs a changed setting; retried at long intervals

    @property
    def in_words(self) -> str:
        """What people read about the slot: an open breaker sounds like a slot that can be used."""
        return {BreakerState.CLOSED: "ok", BreakerState.OPEN: "unavailable"}.get(self, str(self))


@dataclass(frozen=True)
class ClaimedItem:
    """A work item of a claim, with the input and the recipe it was claimed for."""

    item_id: int
    stage: str
    input_digest: str
    recipe: str
    attempts: int
    deferrals: int
    # How its document was split before; see `stages/prompts/long_documents.py`.
    part_sizes: list[list[int]] | None = None
    record: dict[str, Any] | None = field(default=None, repr=False)  # the record it reads; None = it reads the text
    priority: int = 0  # below 0 if the text that it reads is long


@dataclass(frozen=True)
class Claim:
    """A worker's hold on the due work items of one document: the highest priority first, then in declared order of stages."""

    token: int
    document_id: int
    document: str
    is_alone: bool
    text: str | None = field(repr=False)  # the extracted text, for LLM stages
    items: tuple[ClaimedItem, ...]  # empty if every due item could reuse a result

    def input_of(self, item: ClaimedItem) -> str:
        """The text that a stage reads: the document's, or the record of another stage."""
        return (self.text or "") if item.record is None else json.dumps(item.record, ensure_ascii=False, indent=1)

    def priority_from(self, item: ClaimedItem) -> int:
        """The priority at which the document is claimed again if this item and those after it are released."""
        return max(each.priority for each in self.items[self.items.index(item) :])


# Whether a row of `calls` got an answer, usable or not. Only an answer has evidence of its model; not every server counts tokens.
IS_ANSWERED = "(outcome = 'ok' or model_evidence is not null)"


@dataclass(frozen=True)
class CallRecord:
    """One completion: a row of `calls`. `outcome` is `ok` or the code of the fault; `seconds` is its duration.

    `url` is the slot's URL of that time, without user and password; it is not stored with the call. `model_evidence` is None if
    there was no answer. Tokens are None if the server did not count them.
    """

    slot: str
    url: str
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
    """The result of a finished work item: `text` for extract, `value` for LLM stages.

    `in_all` is the last call with the tokens and seconds of all calls of a document that was read in parts.
    `seconds` is the duration of extract; LLM stages use the seconds of their calls.
    """

    outcome: Outcome
    output_digest: str
    text: str | None = None
    value: dict[str, Any] | None = None
    calls: tuple[CallRecord, ...] = ()
    in_all: CallRecord | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class SlotRow:
    """A slot's row in the ledger. Times are of the database's clock."""

    name: str
    url: str = field(repr=False)  # it may hold a password
    model: str
    permits: int
    breaker: BreakerState
    epoch: int
    reason: str | None
    reason_since: datetime | None
    retry_at: datetime | None  # when the next trial is due
    refusal_wait_seconds: float | None
    was_red_since_opening: bool
    is_retry_due: bool  # `retry_at` is reached
    is_trial_running: bool
    fingerprint: str = ""  # of the settings that were registered last
    is_auto: bool = False  # `permits` is measured (`auto`)
    prompt_cache_size: int | None = None  # the server's prompt cache size in documents; None = not known
    prompt_cache_size_from: str | None = None  # person | server
    # The last concurrency found by `auto`; see `slots/auto_concurrency.py`.
    concurrency_found: dict[str, Any] | None = None
    schema: str = DEFAULT_SCHEMA  # of its ledger

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return without_password(self.url)

    @property
    def reason_text(self) -> str:
        """The reason and its time, such as `upstream_cold since 14:02`, in this machine's time zone; with the date unless it
        is today's."""
        if self.reason_since is None:
            return str(self.reason)
        return f"{self.reason} since {shown_moment(self.reason_since)}"

    @property
    def concurrency(self) -> int:
        """How many calls may be open at once. A document has one call at a time, so both the number of permits and the
        prompt cache size limit it."""
        return self.permits if self.prompt_cache_size is None else min(self.permits, self.prompt_cache_size)


@dataclass(frozen=True)
class PendingEvent:
    """One materialization that is not yet reported to Dagster, with everything its metadata shows."""

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
    value: dict[str, Any] | None  # with the corrections of a person
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
    corrected: list[str] | None = None  # the fields that a person corrected

    @property
    def data_version(self) -> str:
        """The digest of the model's answer, or of the record if a person corrected it."""
        if not self.corrected:
            return self.output_digest
        return hashlib.sha256(json.dumps(self.value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class PendingObservation:
    """A change of state that is not yet reported to Dagster. `state` is `deferred`, `failed` or `quarantined`."""

    event_id: int
    document: str
    stage: str
    run_id: str | None
    is_in_doubt: bool  # may have been stored before a crash
    state: State
    reason: str | None
    attempts: int
    deferrals: int
    next_try: datetime | None  # the latest time of the next try, if the item is still in this state
    at: datetime


@dataclass(frozen=True)
class StageCounts:
    """Work items of one stage by state. `outdated` is a part of `done`. The other numbers add up to the documents present
    whose upstream stage is done."""

    pending: int = 0
    claimed: int = 0
    deferred: int = 0
    done: int = 0
    failed: int = 0
    quarantined: int = 0
    outdated: int = 0
