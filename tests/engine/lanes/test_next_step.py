"""The step after one request, decided from the reply. No slot and no ledger."""

from dataclasses import replace

import pytest

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
from dagster_offload.ledger.core.rows import CallRecord
from dagster_offload.settings import Stage, load_settings
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.stage_spec.fields import read_answer
from dagster_offload.stages.catalog import llm_stages
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.llm_stage import LLMStage
from dagster_offload.stages.own import own_stage
from dagster_offload.stages.prompts.long_documents import Kind, Passage
from dagster_offload.stages.prompts.questions import Question

CALL = CallRecord("deep", "http://slot:1", 1, "qwen", 1.0, "ok")
GOOD = '{"category": "other", "confidence": 90, "language": "en"}'
TOO_LONG = ContextOverflow(8192, 9000)
TEXT = "The tenant shall pay the rent. " * 400
ERROR = ValueError("refused")


def whole(text: str) -> Passage:
    return Passage(Kind.WHOLE, text, "Classify it.", 1, 1, 0, is_last=True)


@pytest.fixture
def stage() -> LLMStage:
    return llm_stages(load_settings())[CLASSIFY]


@pytest.fixture
def question(stage: LLMStage) -> Question:
    return Question(stage.instruction, stage.options)


def test_a_valid_answer_is_accepted_with_its_value(stage: LLMStage, question: Question) -> None:
    step = next_step(Reply(CALL, GOOD), question, stage, whole(TEXT))
    assert isinstance(step, Accept)
    assert step.value["category"] == "other"


def test_the_answer_to_the_beginning_of_a_long_document_needs_every_required_value() -> None:
    answer = read_answer({"payee": "string"})
    own = own_stage("payment", Stage(prompt="Who pays?", answer=answer, long_documents="beginning"))
    beginning = Passage(Kind.PART, TEXT, "Who pays?", 1, 3, 0, is_last=True)
    step = next_step(Reply(CALL, "{}"), Question(own.instruction, own.options), own, beginning)
    assert isinstance(step, RefineQuestion)


def test_an_unusable_answer_gets_one_more_question_and_then_is_a_document_fault(
    stage: LLMStage, question: Question
) -> None:
    first = next_step(Reply(CALL, "I would rather not."), question, stage, whole(TEXT))
    assert isinstance(first, RefineQuestion)
    assert first.call.outcome == "no_json"
    second = next_step(Reply(CALL, "I would rather not."), first.question, stage, whole(TEXT))
    assert isinstance(second, Blame)


def test_a_failed_call_leads_to_a_check_of_the_slot(stage: LLMStage, question: Question) -> None:
    assert next_step(Reply(CALL, error=ERROR), question, stage, whole(TEXT)) == FindFault(CALL, ERROR)


def test_a_request_that_was_too_long_is_sent_again_without_room_to_think_before_the_text_is_split(
    stage: LLMStage, question: Question
) -> None:
    reply = Reply(CALL, error=ERROR, too_long=TOO_LONG, had_room_to_think=True)
    call = replace(CALL, outcome=CONTEXT_TOO_LONG)
    assert next_step(reply, question, stage, whole(TEXT)) == Resend(call)
    assert next_step(replace(reply, had_room_to_think=False), question, stage, whole(TEXT)) == SplitSmaller(
        call, TOO_LONG
    )


def test_an_answer_cut_by_the_context_splits_the_text_unless_it_is_too_short(
    stage: LLMStage, question: Question
) -> None:
    reply = Reply(CALL, GOOD, too_long=TOO_LONG)
    assert isinstance(next_step(reply, question, stage, whole(TEXT)), SplitSmaller)
    assert isinstance(next_step(reply, question, stage, whole("short")), Accept)


LOOP = '{"summary": "' + "The rent is due. " * 6 + '"}'
LOOP_AND_LONG = '{"summary": "' + "The rent is due on Monday. " * 60 + '"}'
SUMMARY = '{"summary": "The rent is due on Mondays."}'


def after_two(first: str, second: str) -> Accept:
    """The step after a doubtful answer and the answer to the question after it."""
    stage = llm_stages(load_settings())[SUMMARIZE]
    refined = next_step(
        Reply(CALL, first), Question(stage.instruction, stage.options), stage, whole("The rent is due.")
    )
    assert isinstance(refined, RefineQuestion)
    assert refined.call.outcome == refined.code == "repeats_itself"
    assert "again and again" in refined.question.prompt
    step = next_step(Reply(CALL, second), refined.question, stage, whole("The rent is due."))
    assert isinstance(step, Accept)
    return step


@pytest.mark.rule("answer-7")
def test_a_doubtful_answer_gets_one_more_question_and_is_then_recorded_with_its_marks() -> None:
    assert "doubtful" not in after_two(LOOP, SUMMARY).value
    assert after_two(LOOP, LOOP).value["doubtful"] == ["repeats_itself"]


@pytest.mark.rule("answer-7")
def test_of_two_doubtful_answers_the_one_with_fewer_marks_is_recorded() -> None:
    assert after_two(LOOP_AND_LONG, LOOP).value["doubtful"] == ["repeats_itself"]
    assert after_two(LOOP, LOOP_AND_LONG).value["doubtful"] == ["repeats_itself"]


@pytest.mark.rule("answer-7")
def test_a_doubtful_answer_is_recorded_if_the_second_one_is_unusable() -> None:
    step = after_two(LOOP, "I would rather not.")
    assert step.value["doubtful"] == ["repeats_itself"]
    assert step.call.outcome == "no_json"
