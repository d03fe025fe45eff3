"""Send a stage's question about a text to the slot and return the answer. Nothing is recorded, except that a worker was here.

The call holds a permit, as every call does, and a person's goes before a drain's.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload import timing
from dagster_offload.client.context import RoomToThink
from dagster_offload.client.faults import is_misconfigured, reason_with_setting
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.engine.asking import question_about
from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.engine.lanes.next_step import (
    Accept,
    Blame,
    FindFault,
    RefineQuestion,
    Resend,
    SplitSmaller,
    next_step,
)
from dagster_offload.engine.lanes.shared import wait_until_set
from dagster_offload.engine.session import document_runner, ledger_executor, open_client, run_stoppable
from dagster_offload.engine.slot.breaker import check_breaker
from dagster_offload.engine.slot.state import describe_unavailable
from dagster_offload.errors import SettingsError, StageDeferred
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, CallRecord
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.settings import Settings
from dagster_offload.slot.config import NO_SLOT, SlotConfig
from dagster_offload.stages.llm_stage import LLMStage
from dagster_offload.stages.prompts.long_documents import Reading
from dagster_offload.stages.prompts.splitting import Size

logger = logging.getLogger(__name__)

LONGEST_ANSWER = 2_000  # characters that are shown of a refused answer
SMALLEST_TRIES = 8  # a text that is too long is split at most this often


@dataclass(frozen=True)
class Tried:
    """The answer about one text: `value` is the record, or `fault` says why there is none. Seconds and tokens are those of
    all its calls. `answer` is the beginning of the last answer that was refused, as the model wrote it."""

    document: str
    value: dict[str, Any] | None
    fault: str | None
    answer: str | None
    calls: int
    seconds: float
    tokens_in: int
    tokens_out: int


def try_stage(
    settings: Settings,
    ledger: Ledger,
    stage: LLMStage,
    texts: Sequence[tuple[str, str]],
    on_tried: Callable[[Tried], None] = lambda _: None,
) -> list[Tried]:
    """Ask about each text (a name and the text), one after the other. `on_tried` gets each answer as it comes.

    The first slot that may answer the stage is asked. As soon as it gives no answer, raises an error with the server's own
    words: `SettingsError` if a person most likely has to change something, and without a slot, else `StageDeferred`.
    """
    slot = next(iter(settings.slots.allowed(stage.slots)), None)
    if slot is None:
        raise SettingsError(NO_SLOT)
    slot.require_key()
    if ledger.run(slots.get, slot.name) is None:
        ledger.run(slots.register, slot)  # a known one keeps its settings: to try others must end no hold
    with Worker(ledger, "run") as worker, ledger_executor(ledger) as pool:
        return run_stoppable(_try_all(settings, AsyncLedger(ledger, pool), worker, slot, stage, texts, on_tried))


async def _try_all(
    settings: Settings,
    ledger: AsyncLedger,
    worker: Worker,
    slot: SlotConfig,
    stage: LLMStage,
    texts: Sequence[tuple[str, str]],
    on_tried: Callable[[Tried], None],
) -> list[Tried]:
    async with open_client(settings.slots, ledger) as client:
        row = await check_breaker(ledger, client, slot, worker)
        # With other settings than the registered ones, only a call shows whether the slot answers.
        if row.breaker is not BreakerState.CLOSED and row.fingerprint == slot.fingerprint:
            raise StageDeferred(describe_unavailable(row))
        await _wait_for_permit(ledger, worker, slot)
        runner, tried = document_runner(settings, ledger, client, worker), []
        try:
            async with FreezeWatch(slot) as freeze_watch:
                for name, text in texts:
                    tried.append(await _try(runner, freeze_watch, stage, name, text, row.epoch))
                    on_tried(tried[-1])
        finally:
            await ledger.run(permits.release, slot.name, worker.id)
        return tried


async def _wait_for_permit(ledger: AsyncLedger, worker: Worker, slot: SlotConfig) -> None:
    """Wait until a drain gives a permit up, which it does after its current call."""
    loop, freed = asyncio.get_running_loop(), asyncio.Event()

    def on_notify(_message: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the caller has stopped waiting
            loop.call_soon_threadsafe(freed.set)

    worker.on_notify(on_notify)
    if await ledger.run(permits.acquire, slot.name, worker.id, is_person=True):
        return
    logger.warning("%s has no room for another call; waiting until one of its open calls ends", slot.name)
    while not await ledger.run(permits.acquire, slot.name, worker.id, is_person=True):
        await wait_until_set(freed, timing.current().recheck)
        freed.clear()  # before the next try, so that no notification is lost


async def _try(
    runner: DocumentRunner, freeze_watch: FreezeWatch, stage: LLMStage, name: str, text: str, epoch: int
) -> Tried:
    slot, calls = freeze_watch.slot, list[CallRecord]()
    sizes = (Size(0, await runner.windows.text_tokens(slot, text)),)
    reading, splits = Reading(text, stage.instruction, stage.whole, sizes, {}), 0
    passage = reading.next_passage()
    question = await question_about(runner.ledger, stage, passage)
    room = RoomToThink(slot, runner.client.dialects_of(slot), runner.windows)
    while True:
        reply = await runner.send(epoch, passage, question, room, freeze_watch)
        step = next_step(reply, question, stage, passage)
        calls.append(step.call)
        match step:
            case Accept(_, value) if passage.is_last:
                return _tried(name, calls, value=reading.answer(value))
            case Accept(_, value):
                reading.answered(passage, value)
            case SplitSmaller(_, too_long):
                splits += 1
                runner.windows.learn(slot, too_long)
                if splits > SMALLEST_TRIES or not reading.split_smaller(passage, too_long):
                    return _tried(name, calls, fault="the text is too long for the model's context")
            case Blame(_, fault):
                return _tried(name, calls, fault=fault.message, answer=str(reply.answer)[:LONGEST_ANSWER])
            case FindFault(_, error):
                has_answered = await runner.ledger.run(slots.has_answered, slot)
                reason = f"{slot.name} gave no answer: {reason_with_setting(slot, error, has_answered=has_answered)}"
                raise (SettingsError(reason) if is_misconfigured(error) else StageDeferred(reason)) from error
            case RefineQuestion(_, _, refined):
                question = refined
                continue
            case Resend():
                continue
        passage = reading.next_passage()
        question = await question_about(runner.ledger, stage, passage)


def _tried(
    name: str,
    calls: Sequence[CallRecord],
    *,
    value: dict[str, Any] | None = None,
    fault: str | None = None,
    answer: str | None = None,
) -> Tried:
    return Tried(
        name,
        value,
        fault,
        answer,
        len(calls),
        sum(call.seconds for call in calls),
        sum(call.tokens_in or 0 for call in calls),
        sum(call.tokens_out or 0 for call in calls),
    )
