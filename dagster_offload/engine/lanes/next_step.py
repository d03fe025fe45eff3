"""Decides what to do after one request. No I/O: `engine/lanes/document.py` sends the request and carries out the decision."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.errors import UnusableAnswer
from dagster_offload.ledger.core.rows import CallRecord
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stages.answers.doubts import DROPPED_FIELDS, VALUE_DROPPED, Doubt, doubt_about_dropped
from dagster_offload.stages.answers.parsing import StageAnswer
from dagster_offload.stages.llm_stage import Checked, LLMStage
from dagster_offload.stages.prompts.long_documents import Kind, Passage
from dagster_offload.stages.prompts.questions import Question, marked
from dagster_offload.text.tokens import LEAST_TEXT_TOKENS, estimated_tokens

CONTEXT_TOO_LONG = "context_too_long"  # the outcome of a call


@dataclass(frozen=True)
class Reply:
    """The result of one request: an answer or an error. `call` is its row in the ledger."""

    call: CallRecord
    answer: str = ""
    error: Exception | None = None
    too_long: ContextOverflow | None = None  # the request, or its answer, did not fit the model's context
    had_room_to_think: bool = False  # too long, but the request reserved room to think beyond the answer's limit


@dataclass(frozen=True)
class Step:
    """What to do next. `call` is recorded with it."""

    call: CallRecord


@dataclass(frozen=True)
class Accept(Step):
    """The answer fits the stage."""

    value: dict[str, object]


@dataclass(frozen=True)
class Resend(Step):
    """Send the same request with less room to think."""


@dataclass(frozen=True)
class RefineQuestion(Step):
    """Send a second question, which may get a better answer. `code` says what was wrong with the first one."""

    code: str
    question: Question


@dataclass(frozen=True)
class SplitSmaller(Step):
    """Split the passage: the request or its answer was too long for the model's context."""

    too_long: ContextOverflow


@dataclass(frozen=True)
class Blame(Step):
    """A document fault: the slot answered, and the answer is unusable."""

    fault: UnusableAnswer


@dataclass(frozen=True)
class FindFault(Step):
    """The call failed. A check of the slot decides whose fault that is."""

    error: Exception


def next_step(reply: Reply, question: Question, stage: LLMStage, passage: Passage) -> Step:
    """Decide what to do after `reply` to `question` about `passage`, a document or a part of one."""
    if reply.error is not None:
        return _after_error(reply, reply.error, passage)
    if reply.too_long is not None and estimated_tokens(passage.text) > LEAST_TEXT_TOKENS:
        return SplitSmaller(reply.call, reply.too_long)
    try:
        checked = _checked(reply.answer, stage, passage)
    except UnusableAnswer as fault:
        call = dataclasses.replace(reply.call, outcome=fault.code)
        refined = question.follow_up(fault, reply.answer)
        if refined is None and question.doubtful is not None:
            return Accept(call, dict(question.doubtful))
        return Blame(call, fault) if refined is None else RefineQuestion(call, fault.code, refined)
    doubts = (*checked.doubts, *stage.doubts(checked.value, passage.text))
    return _after_answer(reply.call, checked.value, question, doubts)


def _checked(answer: str, stage: LLMStage, passage: Passage) -> Checked:
    """The record in an answer, checked against the text it is about. Raises `UnusableAnswer`."""
    # The beginning of a long document is a part whose answer is the record.
    is_part = passage.kind is Kind.PART and stage.whole is not None
    record = (stage.parse_part if is_part and stage.parse_part else stage.parse)(answer)
    value = record.model_dump(mode="json")
    doubts: tuple[Doubt, ...] = ()
    if isinstance(record, StageAnswer) and record.dropped:
        doubts = (doubt_about_dropped(record.dropped),)
        if is_part:
            value[DROPPED_FIELDS] = list(record.dropped_fields)
    if stage.check is None or passage.kind is Kind.MERGE:
        return Checked(value, doubts)
    checked = stage.check(value, passage.text, passage.start)
    return Checked(checked.value, (*doubts, *checked.doubts))


def _after_answer(call: CallRecord, answer: dict[str, Any], question: Question, doubts: Sequence[Doubt]) -> Step:
    """Accept a valid answer, or send one more question if it is doubtful. Of two doubtful answers the better one counts."""
    refined = question.after_doubts(doubts, answer) if doubts else None
    if refined is not None:
        code = doubts[0].mark
        return RefineQuestion(dataclasses.replace(call, outcome=code), code, refined)
    first = question.doubtful
    if first is not None and doubts and _is_first_better(first["doubtful"], doubts):
        return Accept(call, dict(first))
    return Accept(call, marked(answer, doubts))


def _is_first_better(first: Sequence[str], second: Sequence[Doubt]) -> bool:
    """Whether the first of two doubtful answers counts. One that only lacks a value that was wrong is good."""
    return len(first) < len(second) or list(first) == [VALUE_DROPPED]


def _after_error(reply: Reply, error: Exception, passage: Passage) -> Step:
    # A short passage that is refused without a word about the context is not too long for it.
    is_short = estimated_tokens(passage.text) <= LEAST_TEXT_TOKENS
    if reply.too_long is None or (reply.too_long.is_guess and is_short):
        return FindFault(reply.call, error)
    call = dataclasses.replace(reply.call, outcome=CONTEXT_TOO_LONG)
    return Resend(call) if reply.had_room_to_think else SplitSmaller(call, reply.too_long)
