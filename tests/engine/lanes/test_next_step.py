"""The step after one request, decided from the reply. No slot and no ledger."""

from dataclasses import replace
from datetime import date

import pytest
from pydantic import BaseModel

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


PAYMENT = own_stage(
    "payment", Stage(prompt="Who pays?", answer=read_answer({"payee": "string", "due": "date", "amount": "number?"}))
)
GERMAN = '{"payee": "X", "due": "04.03.2025", "amount": 5}'


def after_a_wrong_value(answer: str, passage: Passage | None = None, stage: LLMStage = PAYMENT) -> RefineQuestion:
    question = Question(stage.instruction, stage.options)
    step = next_step(Reply(CALL, answer), question, stage, passage or whole("X pays."))
    assert isinstance(step, RefineQuestion)
    assert step.call.outcome == step.code == "value_dropped"
    return step


@pytest.mark.rule("stage-7")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (GERMAN, "due: must be an ISO 8601 date"),
        ('{"payee": "X", "due": "2025-02-30", "amount": null}', "due: must be an ISO 8601 date that exists"),
        ('{"payee": "X", "due": null, "amount": "1,234"}', "amount: must be a number"),
    ],
)
def test_a_wrong_value_of_a_field_that_may_be_null_gets_one_more_question(answer: str, words: str) -> None:
    refined = after_a_wrong_value(answer).question
    assert words in refined.prompt
    better = '{"payee": "X", "due": "2025-03-04", "amount": 1234}'
    accepted = next_step(Reply(CALL, better), refined, PAYMENT, whole("X pays."))
    assert isinstance(accepted, Accept)
    assert accepted.value == {"payee": "X", "due": "2025-03-04", "amount": 1234.0}


@pytest.mark.rule("stage-7")
def test_a_second_answer_with_another_doubt_does_not_replace_one_that_only_lacks_a_wrong_value() -> None:
    answer = read_answer({"payee": "string", "due": "date"})
    stage = own_stage("payment", Stage(prompt="Who pays?", answer=answer, quotes="required"))
    first = '{"payee": "X", "due": "soon", "quotes": {"payee": "X pays the rent."}}'
    refined = after_a_wrong_value(first, whole("X pays the rent."), stage).question
    second = '{"payee": "X", "due": null, "quotes": {"payee": "The tenant owes it."}}'
    accepted = next_step(Reply(CALL, second), refined, stage, whole("X pays the rent."))
    assert isinstance(accepted, Accept)
    assert (accepted.value["payee"], accepted.value["doubtful"]) == ("X", ["value_dropped"])


@pytest.mark.rule("stage-7")
@pytest.mark.parametrize("second", [GERMAN, "I would rather not."])
def test_a_value_that_is_wrong_twice_is_dropped_with_a_mark_and_the_others_are_kept(second: str) -> None:
    step = next_step(Reply(CALL, second), after_a_wrong_value(GERMAN).question, PAYMENT, whole("X pays."))
    assert isinstance(step, Accept)
    assert step.value == {"payee": "X", "due": None, "amount": 5.0, "doubtful": ["value_dropped"]}


@pytest.mark.rule("stage-7")
def test_a_missing_value_of_a_field_that_may_be_null_gets_no_question() -> None:
    for answer in ('{"payee": "X", "due": null, "amount": ""}', '{"payee": "X"}', '{"payee": "X", "due": "unknown"}'):
        accepted = next_step(Reply(CALL, answer), Question("Who?", PAYMENT.options), PAYMENT, whole("X pays."))
        assert isinstance(accepted, Accept)


@pytest.mark.rule("stage-7")
def test_a_wrong_value_in_the_answer_to_a_part_gets_one_more_question() -> None:
    after_a_wrong_value(GERMAN, Passage(Kind.PART, TEXT, "Who pays?", 1, 3, 0, is_last=False))


@pytest.mark.rule("stage-7")
def test_the_answer_to_a_part_keeps_the_names_of_the_fields_whose_values_were_dropped() -> None:
    part = Passage(Kind.PART, TEXT, "Who pays?", 1, 3, 0, is_last=False)
    step = next_step(Reply(CALL, GERMAN), after_a_wrong_value(GERMAN, part).question, PAYMENT, part)
    assert isinstance(step, Accept)
    assert step.value["value_dropped_of"] == ["due"]


class Payment(BaseModel):
    payee: str
    due: date | None


@pytest.mark.rule("stage-7")
def test_a_wrong_value_gets_one_more_question_where_a_model_of_ones_own_checks_the_answer() -> None:
    own = own_stage("payment", Stage.model_validate({"prompt": "Who pays?", "model": Payment}))
    after_a_wrong_value(GERMAN, stage=own)


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


def test_a_request_with_too_many_bytes_for_a_proxy_is_split_unless_its_text_is_short(
    stage: LLMStage, question: Question
) -> None:
    reply = Reply(CALL, error=ERROR, too_long=ContextOverflow(is_guess=True))
    assert isinstance(next_step(reply, question, stage, whole(TEXT)), SplitSmaller)
    assert next_step(reply, question, stage, whole("short")) == FindFault(CALL, ERROR)


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
