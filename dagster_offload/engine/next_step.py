"""What follows from one request about a passage. Pure: `engine/document.py` sends, `next_step` decides, document.py acts."""

import dataclasses
from dataclasses import dataclass

from dagster_offload.errors import UnusableAnswer
from dagster_offload.ledger.core.rows import CallRecord
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stages.catalog import LLMStage
from dagster_offload.stages.questions import Question
from dagster_offload.text.tokens import LEAST_TEXT_TOKENS, estimated_tokens

CONTEXT_TOO_LONG = "context_too_long"  # a call's outcome


@dataclass(frozen=True)
class Reply:
    """What came of one request: an answer, or an error. `call` is its row in the ledger."""

    call: CallRecord
    answer: str = ""
    error: Exception | None = None
    too_long: ContextOverflow | None = None  # the request, or its answer, did not fit the model's context
    had_room_to_think: bool = False  # and the request asked for room beyond the answer's own bound


@dataclass(frozen=True)
class Step:
    """What to do next. `call` goes into the ledger with it."""

    call: CallRecord


@dataclass(frozen=True)
class Accept(Step):
    """The answer fits the stage."""

    value: dict[str, object]


@dataclass(frozen=True)
class SendAgain(Step):
    """The same request, with less room to think."""


@dataclass(frozen=True)
class AskAgain(Step):
    """A second question, which may get a better answer."""

    fault: UnusableAnswer
    question: Question


@dataclass(frozen=True)
class SplitSmaller(Step):
    too_long: ContextOverflow


@dataclass(frozen=True)
class Blame(Step):
    """The document's own fault: there was an answer, and it is unusable."""

    fault: UnusableAnswer


@dataclass(frozen=True)
class FindFault(Step):
    """The call failed; whose fault that is takes a look at the slot."""

    error: Exception


def next_step(reply: Reply, question: Question, stage: LLMStage, text: str) -> Step:
    """What follows from `reply` to `question` about `text`, a document or a part of one."""
    if reply.error is not None:
        return _after_error(reply, reply.error)
    if reply.too_long is not None and estimated_tokens(text) > LEAST_TEXT_TOKENS:
        return SplitSmaller(reply.call, reply.too_long)
    try:
        return Accept(reply.call, stage.parse(reply.answer).model_dump(mode="json"))
    except UnusableAnswer as fault:
        call = dataclasses.replace(reply.call, outcome=fault.code)
        again = question.follow_up(fault, reply.answer)
        return Blame(call, fault) if again is None else AskAgain(call, fault, again)


def _after_error(reply: Reply, error: Exception) -> Step:
    if reply.too_long is None:
        return FindFault(reply.call, error)
    call = dataclasses.replace(reply.call, outcome=CONTEXT_TOO_LONG)
    return SendAgain(call) if reply.had_room_to_think else SplitSmaller(call, reply.too_long)
