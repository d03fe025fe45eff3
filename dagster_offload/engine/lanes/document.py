"""Runs the LLM stages of one claimed document: sends the request, decides what the reply means, records it.

A long document is sent part by part. Between two parts, and between two stages, the lane decides whether to continue.
All answers up to that point are in the ledger.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from dagster_offload import timing
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.context import ContextWindows, RoomToThink
from dagster_offload.client.context_overflow import too_long_of
from dagster_offload.client.faults import busy_reason, fault_code, is_busy, is_cut, retry_after_of
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.engine.asking import question_about
from dagster_offload.engine.lanes.blame import FaultAssigner
from dagster_offload.engine.lanes.call_records import call_record
from dagster_offload.engine.lanes.commits import GroupCommit
from dagster_offload.engine.lanes.next_step import (
    CONTEXT_TOO_LONG,
    Accept,
    Blame,
    FindFault,
    RefineQuestion,
    Reply,
    Resend,
    SplitSmaller,
    next_step,
)
from dagster_offload.engine.lanes.turn import Turn
from dagster_offload.engine.progress import DocumentEnd, PartsRead
from dagster_offload.errors import CutBySleep, DocumentFault
from dagster_offload.host.machine import seconds_slept
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, NewResult
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import breaker
from dagster_offload.ledger.work import claims, finish, partials, refused_answers
from dagster_offload.ledger.work.finish import Finish, output_digest
from dagster_offload.postgres.room import shortage_of
from dagster_offload.settings import Settings
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.slot.config import SlotConfig
from dagster_offload.stages.graph import Outcome, StageGraph
from dagster_offload.stages.llm_stage import LLMStage
from dagster_offload.stages.pipeline import Pipeline
from dagster_offload.stages.prompts.long_documents import Passage, Reading
from dagster_offload.stages.prompts.prompt import system_message
from dagster_offload.stages.prompts.questions import Question
from dagster_offload.stages.prompts.splitting import Size, Sizes
from dagster_offload.text.plain_text import escaped
from dagster_offload.text.tokens import LEAST_TEXT_TOKENS, estimated_tokens

SHORTEST_SLEEP_SECONDS = 1.0  # the clocks that show a sleep are read one after the other

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

# Work on this many characters takes long enough to delay open calls: splitting them, reading an answer, finding quotes.
LONG_TEXT = 200_000


@dataclass
class DocumentRunner:
    """Runs the stages of one worker's documents. All its lanes share it."""

    settings: Settings
    ledger: AsyncLedger
    client: AIClient
    worker: Worker
    graph: StageGraph
    stages: Mapping[str, LLMStage]
    pipeline: Pipeline
    # By slot, after a 429. `drop_lane` returns whether the calling lane has to end.
    drop_lane: dict[str, Callable[[], bool]] = field(default_factory=dict)
    steer: dict[str, Callable[[], None]] = field(default_factory=dict)
    on_part: Callable[[PartsRead], None] = lambda _: None  # a part of a long document was answered
    windows: ContextWindows = field(init=False)
    fault_assigner: FaultAssigner = field(init=False)
    commits: GroupCommit = field(init=False)

    def __post_init__(self) -> None:
        self.windows = ContextWindows()
        self.fault_assigner = FaultAssigner(self.settings, self.ledger, self.client, self.worker)
        self.commits = GroupCommit(self.ledger, self.worker, self.recipes)

    @property
    def recipes(self) -> Mapping[str, str]:
        """The recipe of each stage."""
        return self.pipeline.recipes

    @property
    def shortage(self) -> str | None:
        """Why no call may be started: the disk could not hold its answer. None if there is enough space."""
        return shortage_of(self.settings)

    async def run_stages(
        self, claim: Claim, sizes: Sizes | None, freeze_watch: FreezeWatch, turn: Turn
    ) -> tuple[DocumentEnd, Sizes | None]:
        """Run the stages of a claim, one after the other. Releases the rest of the claim if one of them is not done.

        `sizes` is how the stage before split the document; returned is how the last one did. Raises `SlotForgotten`: then the
        caller releases the claim.
        """
        if claim.is_alone:
            # A suspect gets a new connection: a kept one may have ended since, and that would count against the suspect.
            await self.client.close_connections_to(freeze_watch.slot)
        for item in claim.items:
            reading = await self._begin(claim, item, sizes, freeze_watch.slot)
            end = await self._read(claim, item, reading, freeze_watch, turn)
            if end is not DocumentEnd.DONE:
                await self.ledger.run(claims.release, self.worker.id, claim, _why_released(item, reading, end))
                return end, sizes
            sizes = reading.sizes if item.record is None else sizes
        return DocumentEnd.DONE, sizes

    async def take_following(self, claim: Claim, stages: Sequence[str], slot: SlotConfig) -> Claim | None:
        """Claim those of `stages` that the document's new answers made due. The server still has it in its prompt cache."""
        if not self.graph.has_followers([item.stage for item in claim.items]):
            return None
        taken = await self.ledger.run(
            claims.take,
            self.worker.id,
            stages,
            self.recipes,
            [claim.document],
            count=1,
            slot=slot.name,
            run_id=self.worker.run_id,
        )
        return next((following for following in taken if following.items), None)

    async def _begin(self, claim: Claim, item: ClaimedItem, sizes: Sizes | None, slot: SlotConfig) -> Reading:
        """Start reading the document for a stage: split as before, with the answers stored so far."""
        text, stage = claim.input_of(item), self.stages[item.stage]
        if item.part_sizes:
            sizes = tuple(Size(start, tokens) for start, tokens in item.part_sizes)
        if sizes is None:
            sizes = (Size(0, await self.windows.text_tokens(slot, text)),)
        is_long = len(sizes) > 1 or estimated_tokens(text) > sizes[0].tokens
        known = await self.ledger.run(partials.answers, item) if is_long and stage.whole else {}
        reading = await _beside_calls(len(text), Reading, text, stage.instruction, stage.whole, sizes, known)
        if reading.total is not None:
            await self.ledger.run(partials.begin, claim, item, sizes, reading.done, reading.total)
        return reading

    async def _read(
        self, claim: Claim, item: ClaimedItem, reading: Reading, freeze_watch: FreezeWatch, turn: Turn
    ) -> DocumentEnd:
        """Send one passage after the other until the stage has its answer or must stop."""
        end = None
        with self.ledger.ledger.answer_in_hand():
            while end is None:
                end = await self._ask(claim, item, reading, reading.next_passage(), freeze_watch, turn.epochs)
                if end is None and await turn.must_make_way(claim.priority_from(item)):
                    end = DocumentEnd.MADE_WAY
        return end

    async def _ask(
        self,
        claim: Claim,
        item: ClaimedItem,
        reading: Reading,
        passage: Passage,
        freeze_watch: FreezeWatch,
        epochs: AsyncIterator[int],
    ) -> DocumentEnd | None:
        """Send one passage. Returns None if the next one is to be sent: this one is answered, or was too long."""
        slot, stage = freeze_watch.slot, self.stages[item.stage]
        question = await question_about(self.ledger, stage, passage)
        room = RoomToThink(slot, self.client.dialects_of(slot), self.windows)
        async for epoch in epochs:
            reply = await self.send(epoch, passage, question, room, freeze_watch)
            match await _beside_calls(
                len(passage.text) + len(reply.answer), next_step, reply, question, stage, passage
            ):
                case Accept(call, value) if passage.is_last:
                    return await self._finish(claim, item, reading, value, call)
                case Accept(call, value):
                    return await self._keep(claim, item, reading, passage, value, call)
                case SplitSmaller(call, too_long):
                    return await self._split_smaller(claim, item, reading, passage, slot, call, too_long)
                case Blame(call, fault):
                    await self.ledger.run(refused_answers.keep, item, fault.code, reply.answer)
                    return await self.fault_assigner.blame_document(claim, item, fault, call)
                case FindFault(call, error) if is_busy(error):
                    if (end := await self._after_busy(claim, item, slot, call, error)) is not None:
                        return end
                case FindFault(call, error):
                    return await self.fault_assigner.assign(claim, item, slot, call, error)
                case RefineQuestion(call, code, question):
                    await self.ledger.run(refused_answers.keep, item, code, reply.answer)
                    await self.ledger.run(finish.record_call, self.worker.id, claim, item, call)
                case Resend(call):
                    await self.ledger.run(finish.record_call, self.worker.id, claim, item, call)
        return DocumentEnd.LEFT

    async def send(
        self, epoch: int, passage: Passage, question: Question, room: RoomToThink, freeze_watch: FreezeWatch
    ) -> Reply:
        """Send one request. An error of the call is returned in the reply, not raised."""
        slot, system = freeze_watch.slot, system_message(passage.text)
        options = room.added_to(question.options, system + question.prompt)
        started, slept_before = time.monotonic(), seconds_slept()
        try:
            request = self.client._request(slot, question.prompt, system=system, options=options)
            answer = await freeze_watch.beside(request)
        # Every error of a call goes into the ledger with its reason.
        except Exception as caught:  # noqa: BLE001
            has_slept = seconds_slept() - slept_before > SHORTEST_SLEEP_SECONDS
            error = CutBySleep() if has_slept and is_cut(caught) else caught
            seconds, too_long = time.monotonic() - started, too_long_of(error)
            call = call_record(slot, epoch, seconds, outcome=fault_code(error), part=passage.label)
            had_room = too_long is not None and room.is_to_blame(too_long)
            return Reply(call, error=error, too_long=too_long, had_room_to_think=had_room)
        call = call_record(slot, epoch, time.monotonic() - started, answer=answer, part=passage.label)
        too_long = self.windows.overflow_in(slot, answer, options.max_tokens, system + question.prompt)
        if too_long is None and room.was_too_small(answer):
            too_long = ContextOverflow()
        return Reply(call, answer, too_long=too_long)

    async def _keep(
        self,
        claim: Claim,
        item: ClaimedItem,
        reading: Reading,
        passage: Passage,
        value: dict[str, Any],
        call: CallRecord,
    ) -> DocumentEnd | None:
        """Store the answer to a part before the next part is sent."""
        reading.answered(passage, value)
        was_held = await self.ledger.run(
            partials.keep, self.worker.id, claim, item, passage.digest, value, call, reading.done
        )
        if not was_held:
            logger.info(
                "%s of %s: this worker lost its claim; the answer to %s is kept",
                item.stage,
                escaped(claim.document),
                passage.label,
            )
            return DocumentEnd.LEFT
        self._report(claim, item, reading)
        return None

    async def _split_smaller(
        self,
        claim: Claim,
        item: ClaimedItem,
        reading: Reading,
        passage: Passage,
        slot: SlotConfig,
        call: CallRecord,
        too_long: ContextOverflow,
    ) -> DocumentEnd | None:
        """Split the rest into smaller parts, down to a minimum. A part that is too long for the context is no fault."""
        call = dataclasses.replace(call, outcome=CONTEXT_TOO_LONG)
        self.windows.learn(slot, too_long, claim.document_id)
        characters = len(claim.input_of(item))  # not the passage's: the whole document is split again
        if not await _beside_calls(characters, reading.split_smaller, passage, too_long):
            message = f"{LEAST_TEXT_TOKENS} tokens of text are too long for the model: give its server a larger context"
            fault = DocumentFault("context_too_small", f"{message} ({slot.setting('context_tokens')})")
            return await self.fault_assigner.blame_document(claim, item, fault, call)
        logger.info(
            "%s of %s is too long for %s: splitting it into smaller parts",
            item.stage,
            escaped(claim.document),
            slot.name,
        )
        await self.ledger.run(
            partials.split_smaller, self.worker.id, claim, item, call, reading.sizes, reading.done, reading.total
        )
        if reading.total is not None:
            # A copy of the document may have been read this far.
            reading.know(await self.ledger.run(partials.answers, item))
        self._report(claim, item, reading)
        return None

    def _report(self, claim: Claim, item: ClaimedItem, reading: Reading) -> None:
        if reading.total is not None:
            self.on_part(PartsRead(claim.document, item.stage, reading.done, reading.total))

    async def _finish(
        self, claim: Claim, item: ClaimedItem, reading: Reading, value: dict[str, Any], call: CallRecord
    ) -> DocumentEnd:
        value = reading.answer(value)
        if reading.parts > 1:
            value |= {"parts": reading.parts, "parts_read": reading.parts_read}
            if marks := sorted({*value.get("doubtful", ()), *reading.doubtful}):
                value["doubtful"] = marks
        result = NewResult(Outcome.OK, output_digest(Outcome.OK, value), value=value, calls=(call,))
        if reading.total is None:
            was_held = await self.commits.finish(Finish(claim, item, result))
        else:
            was_held = await self.ledger.run(
                partials.finish_in_parts, self.worker.id, claim, item, result, self.recipes, self.worker.run_id
            )
        if not was_held:
            logger.info(
                "%s of %s: the input changed during the call; the answer is kept", item.stage, escaped(claim.document)
            )
        return DocumentEnd.DONE if was_held else DocumentEnd.LEFT

    async def _after_busy(
        self, claim: Claim, item: ClaimedItem, slot: SlotConfig, call: CallRecord, error: Exception
    ) -> DocumentEnd | None:
        """After a 429, wait as long as the slot asks, and return None: the call is sent again; else how the document's work ends.

        The 429 of a lane that ends is not counted, or several workers whose lanes are too many would open the breaker.
        """
        sent_at, reason, wait = time.monotonic() - call.seconds, busy_reason(error), retry_after_of(error)
        must_end = (wait or 0) <= breaker.LONGEST_BUSY_SECONDS and self.drop_lane[slot.name]()
        if not must_end and await self.ledger.run(breaker.count_busy, call.slot, call.epoch, reason, wait, sent_at):
            return await self.fault_assigner.assign(claim, item, slot, call, error)
        await self.ledger.run(finish.record_call, self.worker.id, claim, item, call)
        if must_end:
            return DocumentEnd.LEFT
        self.steer[slot.name]()
        await asyncio.sleep(timing.current().busy_pause if wait is None else wait)
        return None


async def _beside_calls(characters: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` on this many characters without delaying open calls."""
    if characters < LONG_TEXT:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def _why_released(item: ClaimedItem, reading: Reading, end: DocumentEnd) -> str:
    """Why the rest of a claim is released."""
    progress = f"left after {reading.done} of {reading.total} parts" if reading.total else "not started"
    match end:
        case DocumentEnd.LEFT:
            why = f"{progress}: the slot was needed, busy or unavailable, or the disk was full"
        case DocumentEnd.MADE_WAY:
            why = f"{progress}: shorter documents go first"
        case _:
            why = str(end)
    return f"the document's {item.stage} was {why}"
