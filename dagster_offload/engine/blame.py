"""Whose fault it is that a call brought no result: the slot's, where it is away or refuses a trial too, else the document's.

Only what a slot that answers refuses is a document's own fault and costs an attempt.
"""

import logging
from dataclasses import dataclass

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.faults import fault_reason, is_cut, reason_with_setting, retry_after_of
from dagster_offload.engine.breaker import verdict
from dagster_offload.engine.progress import WalkEnd
from dagster_offload.errors import DocumentFault, is_deferrable_error
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import breaker
from dagster_offload.ledger.work import deferrals, suspects
from dagster_offload.plain_text import escaped
from dagster_offload.settings import Settings
from dagster_offload.slot.config import SlotConfig

logger = logging.getLogger(__name__)


@dataclass
class Judge:
    """What every judgement of one worker needs."""

    settings: Settings
    ledger: AsyncLedger
    client: AIClient
    worker: Worker

    async def judge(
        self, claim: Claim, item: ClaimedItem, slot: SlotConfig, call: CallRecord, error: Exception
    ) -> WalkEnd:
        """Whose fault is it? The slot's, where it is away or refuses a trial too; else the document's."""
        reason = reason_with_setting(slot, error)
        logger.info("%s of %s on %s: %s", item.stage, escaped(claim.document), slot.name, reason)
        default_wait = self.settings.retry_after_minutes * 60
        if is_deferrable_error(error) and not is_cut(error):
            await self.ledger.run(
                deferrals.open_and_defer, self.worker.id, claim, item, call, reason, retry_after_of(error), default_wait
            )
            return WalkEnd.DEFERRED
        if is_cut(error):
            if not await self.ledger.run(suspects.note_cut, slot.name, call.epoch, item, reason):
                return await self._try_again_at_once(claim, item, call, reason)
            if await verdict(self.ledger, self.client, slot, self.worker, call.epoch):
                state = await self.ledger.run(suspects.suspect, self.worker.id, claim, item, call, reason)
                return WalkEnd.FAILED if state is State.QUARANTINED else WalkEnd.DEFERRED
            await self.ledger.run(
                deferrals.defer, self.worker.id, claim, item, call, reason, default_wait, slot.name, call.epoch
            )
            return WalkEnd.DEFERRED
        if not await self.ledger.run(breaker.open_breaker, slot.name, call.epoch, reason, None, at_once=True):
            return await self._try_again_at_once(claim, item, call, reason)
        if await verdict(self.ledger, self.client, slot, self.worker, call.epoch):
            return await self.blame(claim, item, DocumentFault(fault_code(error), reason), call)
        await self.ledger.run(deferrals.release_after_slot_fault, self.worker.id, claim, item, call, reason)
        return WalkEnd.DEFERRED

    async def _try_again_at_once(self, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> WalkEnd:
        """The slot was away and came back while this call was open: its failure tells nothing of the slot now, nor of
        the document. Being put off in an epoch that is over, it is due."""
        await self.ledger.run(deferrals.defer, self.worker.id, claim, item, call, reason, 0.0, call.slot, call.epoch)
        return WalkEnd.DEFERRED

    async def blame(self, claim: Claim, item: ClaimedItem, fault: DocumentFault, call: CallRecord) -> WalkEnd:
        """The document's own fault: an attempt is spent."""
        state = await self.ledger.run(
            deferrals.fail, self.worker.id, claim, item, fault.code, fault.message, call, is_final=fault.is_final
        )
        logger.info("%s of %s: %s (%s)", item.stage, escaped(claim.document), fault.message, state)
        return WalkEnd.FAILED if state is State.FAILED else WalkEnd.PUT_BACK


def fault_code(error: Exception) -> str:
    """One word, equal for equal faults."""
    return fault_reason(error).partition(":")[0].replace(" ", "_").lower()
