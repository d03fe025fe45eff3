"""Decides whose fault a failed call is: the slot's, the document's, or not known yet.

An error is the document's fault, and costs an attempt, only if the slot answers a trial right after it. If the answer was
cut, or the slot refuses the trial too, the document may still be the cause: `ledger/work/suspects.py` decides.
"""

import logging
from dataclasses import dataclass
from enum import Enum, auto

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import (
    fault_code,
    is_cut,
    is_unpaid,
    reason_with_setting,
    reason_with_words,
    retry_after_of,
)
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.engine.slot.breaker import run_or_await_trial
from dagster_offload.errors import CutBySleep, DocumentFault, SettingsError, is_deferrable_error
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.ledger.slots.breaker import BUSY_IN_A_ROW_TO_OPEN
from dagster_offload.ledger.work import deferrals, suspects
from dagster_offload.settings import Settings
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.plain_text import escaped

logger = logging.getLogger(__name__)


class Failure(Enum):
    """How a call failed."""

    REFUSED = auto()  # the slot is unavailable: it says so, or cannot be reached
    UNPAID = auto()  # the account at the provider has too little credit
    CUT = auto()  # the connection ended before the answer was complete
    SLEPT = auto()  # this machine slept during the call, which was then cut
    UNSENT = auto()  # a setting is wrong, so nothing was sent
    ERROR = auto()  # the answer is an error: a status such as 404, or not a chat completion


def failure_of(error: Exception) -> Failure:
    """Classify the exception of a failed call."""
    if is_cut(error):
        return Failure.CUT
    if isinstance(error, CutBySleep):
        return Failure.SLEPT
    if isinstance(error, SettingsError):
        return Failure.UNSENT
    if is_unpaid(error):
        return Failure.UNPAID
    return Failure.REFUSED if is_deferrable_error(error) else Failure.ERROR


@dataclass
class FaultAssigner:
    """Assigns the failed calls of one worker to the slot or to the document."""

    settings: Settings
    ledger: AsyncLedger
    client: AIClient
    worker: Worker

    async def assign(
        self, claim: Claim, item: ClaimedItem, slot: SlotConfig, call: CallRecord, error: Exception
    ) -> DocumentEnd:
        """Decide whose fault a failed call is, and record the consequence."""
        has_answered = await self.ledger.run(slots.has_answered, slot)
        failure, reason = failure_of(error), reason_with_setting(slot, error, has_answered=has_answered)
        logger.info("%s of %s on %s: %s", item.stage, escaped(claim.document), slot.name, reason)
        if failure is Failure.SLEPT:
            return await self._retry_at_once(claim, item, call, reason)
        if failure in {Failure.REFUSED, Failure.UNPAID}:
            await self.ledger.run(
                deferrals.open_and_defer,
                self.worker.id,
                claim,
                item,
                call,
                reason,
                retry_after_of(error),
                self.settings.retry_after_minutes * 60,
                is_misconfigured=failure is Failure.UNPAID,
            )
            return DocumentEnd.DEFERRED
        where = f" on {claim.document}"
        reason_with_document = reason_with_setting(slot, error, where=where, has_answered=has_answered)
        if not await self._open_for_a_trial(failure, item, slot, call, reason, reason_with_document):
            return await self._retry_at_once(claim, item, call, reason)
        is_answered = await run_or_await_trial(
            self.ledger, self.client, slot, self.worker, call.epoch, busy_waits=BUSY_IN_A_ROW_TO_OPEN - 1
        )
        if failure is Failure.UNSENT:
            wait = self.settings.retry_after_minutes * 60
            await self.ledger.run(
                deferrals.defer, self.worker.id, claim, item, call, reason, wait, call.slot, call.epoch
            )
            return DocumentEnd.DEFERRED
        if is_answered and failure is Failure.ERROR:
            # The slot answers other requests, so no setting is wrong.
            fault = DocumentFault(fault_code(error), reason_with_words(error))
            return await self.blame_document(claim, item, fault, call)
        state = await self.ledger.run(suspects.suspect, self.worker.id, claim, item, call, reason)
        return DocumentEnd.FAILED if state is State.QUARANTINED else DocumentEnd.DEFERRED

    async def _open_for_a_trial(
        self,
        failure: Failure,
        item: ClaimedItem,
        slot: SlotConfig,
        call: CallRecord,
        reason: str,
        reason_with_document: str,
    ) -> bool:
        """Open the breaker and make a trial due at once. Returns False if the call belongs to an earlier epoch."""
        if failure is Failure.CUT:
            return await self.ledger.run(suspects.note_cut, slot.name, call.epoch, item, reason, reason_with_document)
        return await self.ledger.run(
            breaker.open_breaker, slot.name, call.epoch, reason_with_document, None, at_once=True
        )

    async def _retry_at_once(self, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> DocumentEnd:
        """Retry: the slot became unavailable and came back while this call was open, or this machine slept. So the failure
        says nothing about the slot's present state or about the document. An item deferred in an earlier epoch is due."""
        await self.ledger.run(deferrals.defer, self.worker.id, claim, item, call, reason, 0.0, call.slot, call.epoch)
        return DocumentEnd.DEFERRED

    async def blame_document(
        self, claim: Claim, item: ClaimedItem, fault: DocumentFault, call: CallRecord
    ) -> DocumentEnd:
        """Record a document fault, which costs an attempt."""
        state = await self.ledger.run(
            deferrals.fail, self.worker.id, claim, item, fault.code, fault.message, call, is_final=fault.is_final
        )
        logger.info("%s of %s: %s (%s)", item.stage, escaped(claim.document), fault.message, state)
        return DocumentEnd.FAILED if state is State.FAILED else DocumentEnd.PUT_BACK
