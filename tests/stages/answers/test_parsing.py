"""Parsing of answers: spellings with a certain meaning are accepted, and values without a meaning are dropped."""

import contextlib
import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_offload.errors import UnusableAnswer
from dagster_offload.settings import load_settings
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.stages import classify, summarize
from dagster_offload.stages.catalog import llm_stages, recipes
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.prompts.languages import language_code, language_name
from dagster_offload.stages.prompts.questions import Question

CLASSES = ("invoice", "Tax Return", "세금", "other")


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("0.85", 0.85),
        ("1", 1.0),
        ("0", 0.0),
        ("85", 0.85),
        ("100", 1.0),
        ('"0.85"', 0.85),
        ('"85%"', 0.85),
        ('"1 %"', 0.01),
        ('"85"', 0.85),
        ('"high"', None),
        ('""', None),
        ("null", None),
        ("true", None),
        ("[0.8]", None),
    ],
)
def test_confidence_is_accepted_in_every_common_spelling(written: str, parsed: float | None) -> None:
    assert classify.parse(f'{{"category": "other", "confidence": {written}}}', CLASSES).confidence == parsed


@pytest.mark.parametrize(
    "written", ["-0.1", "-1", "1.5", "87.5", "101", "99.9", "Infinity", "NaN", '"150%"', "7777777777777777", "1e999"]
)
def test_an_invalid_confidence_is_dropped_and_the_class_is_kept(written: str) -> None:
    record = classify.parse(f'{{"category": "other", "confidence": {written}, "language": "ko"}}', CLASSES)
    assert (record.category, record.confidence, record.language) == ("other", None, "ko")


def test_an_invalid_optional_field_is_dropped_and_an_invalid_required_field_is_an_error() -> None:
    record = summarize.parse('{"summary": "Short.", "title": ["A", "B"], "key_points": {"1": "One."}}')
    assert (record.summary, record.title, record.key_points) == ("Short.", None, ())
    with pytest.raises(UnusableAnswer) as caught:
        summarize.parse('{"summary": ["Short."], "title": "A"}')
    assert caught.value.code == "answer_does_not_fit"
    assert "summary" in caught.value.message


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ('"ko"', "ko"),
        ('"KO"', "ko"),
        ('"ko-KR"', "ko"),
        ('"zh_Hant_TW"', "zh"),
        ('"kor"', "ko"),
        ('" Korean "', "ko"),
        ('"한국어"', "ko"),
        ('"Klingon"', None),
        ('"xyz"', None),
        ("null", None),
        ("7", None),
    ],
)
def test_a_language_is_accepted_as_a_code_or_a_name(written: str, code: str | None) -> None:
    assert summarize.parse(f'{{"summary": "Short.", "language": {written}}}').language == code


def test_owners_can_set_a_language_by_code_or_name() -> None:
    assert language_name("ko") == language_name("ko-KR") == language_name("korean") == "Korean"
    assert language_name(" Plattdeutsch ") == "Plattdeutsch"
    assert language_code("Plattdeutsch") is None


@pytest.mark.parametrize("written", ["tax return", "TAX RETURN", " Tax Return ", "Tax return.", "'Tax Return'"])
def test_a_class_is_recorded_as_it_was_declared(written: str) -> None:
    assert classify.parse(f'{{"category": "{written}"}}', CLASSES).category == "Tax Return"


def test_korean_classes_match_in_both_normal_forms() -> None:
    decomposed = unicodedata.normalize("NFD", "세금")
    assert classify.parse(f'{{"category": "{decomposed}"}}', CLASSES).category == "세금"


def test_among_classes_that_differ_only_in_case_the_exact_one_is_used() -> None:
    assert classify.parse('{"category": "AI"}', ("ai", "AI", "other")).category == "AI"
    assert classify.parse('{"category": "Ai"}', ("ai", "AI", "other")).category == "ai"


@pytest.mark.parametrize(
    ("written", "points"),
    [
        ('["One.", "Two."]', ("One.", "Two.")),
        ('["- One.", "* Two.", "", null]', ("One.", "Two.")),
        ('["1. One.", "2. Two.", "3. Three."]', ("One.", "Two.", "Three.")),
        ('"- One.\\n- Two."', ("One.", "Two.")),
        ('"1) One.\\n\\n2) Two."', ("One.", "Two.")),
        ('["One.", "Two.", "- One."]', ("One.", "Two.")),
        ("null", ()),
    ],
)
def test_key_points_become_a_list_in_every_common_spelling(written: str, points: tuple[str, ...]) -> None:
    assert summarize.parse(f'{{"summary": "Short.", "key_points": {written}}}').key_points == points


@pytest.mark.parametrize(
    "points",
    [
        ("2024 was wet.",),
        ("15. März 2024: Zahlungsfrist", "5. 000 Stück", "3. Oktober: Übergabe"),
        ("1. Mai: Feiertag", "2. Mai: Feiertag"),
    ],
)
def test_a_day_or_an_amount_at_the_start_of_a_point_is_kept(points: tuple[str, ...]) -> None:
    assert summarize.parse(json.dumps({"summary": "Short.", "key_points": points})).key_points == points


@pytest.mark.parametrize("before", ["", "Here is the JSON:\n", "It may be {this} or that.</think>"])
@pytest.mark.parametrize("summary", ["Models write <think> first.", "They write <think> and </think>."])
def test_an_answer_may_mention_thinking_tags(before: str, summary: str) -> None:
    assert summarize.parse(before + json.dumps({"summary": summary})).summary == summary


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer("\n" * 400, finish_reason="length"), "blank_answer"),
        (Answer('{"category":' + " \n" * 300, finish_reason="length"), "blank_answer"),
        (Answer('{"category": "' + r"\n" * 300, finish_reason="length"), "blank_answer"),
        (Answer('{"category": "other", "confid', finish_reason="length"), "cut_by_max_tokens"),
        (Answer("", finish_reason="length", thinking_tokens=200), "unclosed_thinking"),
        (Answer("", finish_reason="stop", thinking_tokens=200), "empty_answer"),
    ],
    ids=[
        "blanks",
        "blanks in JSON",
        "blanks in a string",
        "cut",
        "thinking to the limit",
        "thinking without an answer",
    ],
)
def test_an_unusable_answer_has_the_code_of_its_cause(answer: Answer, code: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(answer, CLASSES)
    assert caught.value.code == code


LETTER = '{"category": "other", "language": "ko"}'
DRAFT = '{"category": "invoice"}'


@pytest.mark.parametrize(
    "text",
    [
        f"<|channel|>analysis<|message|>It may be {DRAFT}.<|end|><|start|>assistant<|channel|>final<|message|>{LETTER}",
        f"analysisIt may be {DRAFT}.assistantfinal{LETTER}",  # without its control tokens
        f"[THINK]{DRAFT}[/THINK]{LETTER}",
        f"{DRAFT}</think>{LETTER}",
        f"Draft: {DRAFT} Final answer: {LETTER}",
        f"{DRAFT}\n{LETTER}",
        f"{LETTER} Note: {{}}",
        f'{LETTER} It is not {{"category": "poem"}}.',
        f"```json\n{LETTER}\n```<|im_end|>",
        '{"category": "other", "language": "ko",}',
        '{"category": "other", "language": "ko", "why": ["a,]", "b",],}',
        'So: {"category": "other", "language": "ko",}',
        '{"category": "other", "language": "ko", "why": "one\ntwo\tthree"}',
    ],
)
def test_the_last_valid_object_after_the_last_mark_is_the_answer(text: str) -> None:
    record = classify.parse(text, CLASSES)
    assert (record.category, record.language) == ("other", "ko")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("<|channel|>analysis<|message|>Hm.", "unclosed_thinking"),
        ("<|channel|>fin", "unclosed_thinking"),
        ("Hm.<|chan", "no_json"),
        ("<|channel|>final<|message|>", "empty_answer"),
        ("x" * 5_000_000, "answer_too_long"),
        (LETTER + " " * 5_000_000, "answer_too_long"),
        ('{"a":' * 1_000 + "1" + "}" * 1_000, "no_json"),
        ("[" * 1_000 + "]" * 1_000, "no_json"),
    ],
    ids=lambda value: value if len(value) < 40 else f"{len(value)} characters",
)
def test_the_error_for_a_broken_answer_has_a_code_and_a_short_message(text: str, code: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(text, CLASSES)
    assert caught.value.code == code
    assert len(caught.value.message) < 200


def test_an_answer_is_found_among_thousands_of_nested_objects() -> None:
    nested = '{"a":' * 400 + "1" + "}" * 400
    assert classify.parse(f'{{"category": "other", "why": {nested}}}', CLASSES).category == "other"
    assert classify.parse(f"{nested} " * 20 + LETTER, CLASSES).category == "other"


@pytest.mark.parametrize("thinking", [LETTER, f"It is a letter, so {LETTER}", f"{LETTER}\n{LETTER}"])
def test_with_empty_content_a_single_record_in_the_thinking_is_the_answer(thinking: str) -> None:
    answer = Answer("", finish_reason="stop", reasoning=thinking, is_in_reasoning=True)
    assert classify.parse(answer, CLASSES).language == "ko"
    assert classify.parse(f"<think>{thinking}</think>", CLASSES).language == "ko"


@pytest.mark.parametrize(
    "thinking", ["", "It is a letter.", f"{DRAFT} or {LETTER}", '{"category": "poem"}', "x" * 5_000_000]
)
def test_thinking_without_a_single_record_is_not_an_answer(thinking: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(Answer("", finish_reason="stop", reasoning=thinking), CLASSES)
    assert caught.value.code in {"empty_answer", "unknown_class"}


VALID_RECORD = st.fixed_dictionaries(
    {"category": st.sampled_from(CLASSES)},
    optional={"confidence": st.one_of(st.none(), st.integers(), st.floats(), st.text()), "more": st.text()},
)


# A text that opens an object and does not end it makes all the rest a part of that object.
OPENS_NO_OBJECT = st.text().filter(lambda text: re.search(r'\{\s*"', text) is None)


@settings(deadline=None)
@given(VALID_RECORD, OPENS_NO_OBJECT, st.text(st.characters(exclude_characters='{}[]<>"◁')))
def test_a_valid_object_is_found_within_any_text(value: dict[str, Any], before: str, after: str) -> None:
    text = f"{before}</think>{json.dumps(value)}{after}"
    assert classify.parse(text, CLASSES).category == value["category"]


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]",:\\ \n\t<|>/thinkcategory1')))
def test_any_text_is_a_record_or_an_unusable_answer(text: str) -> None:
    with contextlib.suppress(UnusableAnswer):
        assert classify.parse(text, CLASSES).category in CLASSES


def follow_up(code: str, answer: str = "", **options: Any) -> Question | None:
    question = Question("Classify.", RequestOptions(max_tokens=200, response_schema={"type": "object"}, **options))
    return question.follow_up(UnusableAnswer(code, "category: Field required"), answer)


def test_a_repair_question_repeats_the_first_and_names_the_fault() -> None:
    second = follow_up("answer_does_not_fit")
    assert second is not None
    assert second.prompt.startswith("Classify.\n\n")
    assert "category: Field required" in second.prompt
    assert second.options.response_schema is not None
    assert second.follow_up(UnusableAnswer("no_json", "none"), "") is None, "there is only one repair question"


def test_after_a_blank_answer_the_repair_question_has_no_schema() -> None:
    second = follow_up("blank_answer")
    assert second is not None
    assert second.options.response_schema is None


def test_after_a_cut_answer_the_repair_question_mentions_the_token_limit() -> None:
    second = follow_up("cut_by_max_tokens")
    assert second is not None
    assert "token limit" in second.prompt


def test_an_answer_that_ends_while_thinking_gets_no_repair_question() -> None:
    assert follow_up("unclosed_thinking") is None


def test_an_empty_answer_gets_one_repair_question_without_the_schema() -> None:
    second = follow_up("empty_answer")
    assert second is not None
    assert second.options.response_schema is None
    assert second.follow_up(UnusableAnswer("empty_answer", "the answer is empty"), "") is None
    assert Question("Classify.", RequestOptions()).follow_up(UnusableAnswer("empty_answer", ""), "") is None


def test_after_unwanted_thinking_the_same_question_is_sent_again_and_is_not_a_repair() -> None:
    answer = Answer("", thinking_tokens=200)
    answer.is_worth_asking_otherwise = True
    second = follow_up("unclosed_thinking", answer)
    assert second is not None
    assert second.prompt == "Classify."


def test_the_owners_language_changes_the_summarys_question_and_only_its_recipe() -> None:
    own, korean = load_settings(), load_settings(language="ko")
    assert "the document's own language" in llm_stages(own)[SUMMARIZE].instruction
    assert llm_stages(korean)[SUMMARIZE].instruction.endswith("in Korean.")
    assert recipes(own)[SUMMARIZE] != recipes(korean)[SUMMARIZE] == recipes(load_settings(language="Korean"))[SUMMARIZE]
    assert recipes(own)[CLASSIFY] == recipes(korean)[CLASSIFY]
