"""Walk one claimed document through its LLM stages: ask, judge the answer or the fault, record.

Whose fault an error is gets decided here, with a trial where the slot may be at fault: only what a slot that answers
refuses is a document's own fault and costs an attempt.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from dagster_offload.client import AIClient
from dagster_offload.completion import Answer
from dagster_offload.errors import DocumentFault, UnusableAnswer, is_deferrable_error
from dagster_offload.faults import fault_reason, is_cut, reason_with_setting, retry_after_of
from dagster_offload.gate import AsyncLedger, verdict
from dagster_offload.ledger import breaker, claims, deferrals, refused_answers, results, suspects
from dagster_offload.ledger.records import CallRecord, Claim, ClaimedItem, NewResult, Outcome, State
from dagster_offload.ledger.results import output_digest
from dagster_offload.ledger.workers import Worker
from dagster_offload.settings import Settings
from dagster_offload.slots import SlotConfig
from dagster_offload.stages import LLMStage
from dagster_offload.stages.prompt import system_message
from dagster_offload.stages.questions import Question
from dagster_offload.tally import WalkEnd
from dagster_offload.vigil import Vigil

logger = logging.getLogger(__name__)

BUSY_STATUS = 429
BUSY_PAUSE_SECONDS = 5.0


@dataclass
class Walker:
    """What every walk of one worker shares."""

    settings: Settings
    ledger: AsyncLedger
    client: AIClient
    worker: Worker
    stages: Mapping[str, LLMStage]
    recipes: Mapping[str, str]
    on_busy: Callable[[], None] = lambda: None  # the slot said 429: use fewer lanes

    async def ask_all(self, claim: Claim, vigil: Vigil, epochs: AsyncIterator[int]) -> WalkEnd:
        """A claimed document's LLM stages, one after the other: the next is sent when the one before has answered.

        `epochs` gives the slot's epoch for each call, and ends where nothing new may be started.
        """
        if claim.is_alone:
            # A suspect's own connection: one kept from before may have ended since, and that would be held against it.
            await self.client.aclose()
        for item in claim.items:
            end = await self._ask(claim, item, self.stages[item.stage], vigil, epochs)
            if end is not WalkEnd.DONE:
                was = "not started: the slot was needed or away" if end is WalkEnd.LEFT else end
                await self.ledger.run(claims.release, self.worker.id, claim, f"the document's {item.stage} was {was}")
                return end
        return WalkEnd.DONE

    async def _ask(
        self, claim: Claim, item: ClaimedItem, stage: LLMStage, vigil: Vigil, epochs: AsyncIterator[int]
    ) -> WalkEnd:
        slot = vigil.slot
        system = system_message(claim.text or "")
        question = Question(stage.instruction, stage.options)
        async for epoch in epochs:
            started = time.monotonic()
            try:
                asked = self.client._request(slot, question.prompt, system=system, options=question.options)
                answer = await vigil.beside(asked)
            # Whatever a call raises is judged, not swallowed: it ends in the ledger with its reason.
            except Exception as error:  # noqa: BLE001
                call = _call(slot, epoch, time.monotonic() - started, outcome=_code(error))
                if await self._waited_for_a_busy_slot(claim, item, call, error):
                    continue
                return await self._judge(claim, item, slot, call, error)
            call = _call(slot, epoch, time.monotonic() - started, answer=answer)
            try:
                record = stage.parse(answer)
            except UnusableAnswer as fault:
                call = dataclasses.replace(call, outcome=fault.code)
                await self.ledger.run(refused_answers.keep, item, fault.code, answer)
                again = question.asked_again(fault, answer)
                if again is None:
                    return await self._blame(claim, item, fault, call)
                await self.ledger.run(results.record_call, self.worker.id, claim, item, call)
                question = again
                continue
            value = record.model_dump(mode="json")
            result = NewResult(Outcome.OK, output_digest(Outcome.OK, value), value=value, calls=(call,))
            return await self._finish(claim, item, result)
        return WalkEnd.LEFT

    async def _finish(self, claim: Claim, item: ClaimedItem, result: NewResult) -> WalkEnd:
        was_held = await self.ledger.run(
            results.finish, self.worker.id, claim, item, result, self.recipes, self.worker.run_id
        )
        if not was_held:
            logger.info("%s of %s: its input changed meanwhile; the answer is kept", item.stage, claim.document)
        return WalkEnd.DONE if was_held else WalkEnd.LEFT

    async def _waited_for_a_busy_slot(
        self, claim: Claim, item: ClaimedItem, call: CallRecord, error: Exception
    ) -> bool:
        """429 is back-pressure: wait what the slot asks and try the same call again, unless that opened the breaker."""
        if getattr(getattr(error, "response", None), "status_code", None) != BUSY_STATUS:
            return False
        wait = retry_after_of(error)
        if await self.ledger.run(breaker.count_busy, call.slot, call.epoch, wait):
            return False
        await self.ledger.run(results.record_call, self.worker.id, claim, item, call)
        self.on_busy()
        await asyncio.sleep(BUSY_PAUSE_SECONDS if wait is None else wait)
        return True

    async def _judge(
        self, claim: Claim, item: ClaimedItem, slot: SlotConfig, call: CallRecord, error: Exception
    ) -> WalkEnd:
        """Whose fault is it? The slot's, where it is away or refuses a trial too; else the document's."""
        reason = reason_with_setting(slot, error)
        logger.info("%s of %s on %s: %s", item.stage, claim.document, slot.name, reason)
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
            return await self._blame(claim, item, DocumentFault(_code(error), reason), call)
        await self.ledger.run(deferrals.release_after_slot_fault, self.worker.id, claim, item, call, reason)
        return WalkEnd.DEFERRED

    async def _try_again_at_once(self, claim: Claim, item: ClaimedItem, call: CallRecord, reason: str) -> WalkEnd:
        """The slot was away and came back while this call was open: its failure tells nothing of the slot now, nor of
        the document. Being put off in an epoch that is over, it is due."""
        await self.ledger.run(deferrals.defer, self.worker.id, claim, item, call, reason, 0.0, call.slot, call.epoch)
        return WalkEnd.DEFERRED

    async def _blame(self, claim: Claim, item: ClaimedItem, fault: DocumentFault, call: CallRecord) -> WalkEnd:
        state = await self.ledger.run(
            deferrals.fail, self.worker.id, claim, item, fault.code, fault.message, call, is_final=fault.is_final
        )
        logger.info("%s of %s: %s (%s)", item.stage, claim.document, fault.message, state)
        return WalkEnd.FAILED if state is State.FAILED else WalkEnd.PUT_BACK


def _code(error: Exception) -> str:
    """One word, equal for equal faults."""
    return fault_reason(error).partition(":")[0].replace(" ", "_").lower()


def _call(
    slot: SlotConfig, epoch: int, seconds: float, *, answer: str | None = None, outcome: str = "ok"
) -> CallRecord:
    known = answer if isinstance(answer, Answer) else Answer("")
    return CallRecord(
        slot=slot.name,
        epoch=epoch,
        asked_model=slot.model,
        seconds=known.seconds or seconds,
        outcome=outcome,
        served_model=known.served_model,
        model_evidence=known.model_evidence if answer is not None else None,
        tokens_in=known.usage.prompt_tokens,
        tokens_out=known.usage.completion_tokens,
        tokens_cached=known.usage.cached_tokens,
    )
