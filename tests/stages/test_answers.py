"""What is taken from an answer: what certainly means the same is accepted, what means nothing is left out."""

import contextlib
import json
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
from dagster_offload.stages.languages import language_code, language_name
from dagster_offload.stages.questions import Question

CLASSES = ("invoice", "Tax Return", "세금", "other")


@pytest.mark.parametrize(
    ("written", "taken"),
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
def test_confidence_is_taken_however_it_is_written(written: str, taken: float | None) -> None:
    assert classify.parse(f'{{"category": "other", "confidence": {written}}}', CLASSES).confidence == taken


@pytest.mark.parametrize(
    "written", ["-0.1", "-1", "1.5", "87.5", "101", "99.9", "Infinity", "NaN", '"150%"', "7777777777777777", "1e999"]
)
def test_a_confidence_that_is_no_share_of_one_costs_the_confidence_never_the_class(written: str) -> None:
    record = classify.parse(f'{{"category": "other", "confidence": {written}, "language": "ko"}}', CLASSES)
    assert (record.category, record.confidence, record.language) == ("other", None, "ko")


def test_any_optional_field_that_does_not_fit_is_left_out_and_a_required_one_is_not() -> None:
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
def test_a_language_is_taken_however_it_is_named(written: str, code: str | None) -> None:
    assert summarize.parse(f'{{"summary": "Short.", "language": {written}}}').language == code


def test_owners_may_name_a_language_by_code_or_name() -> None:
    assert language_name("ko") == language_name("ko-KR") == language_name("korean") == "Korean"
    assert language_name(" Plattdeutsch ") == "Plattdeutsch"
    assert language_code("Plattdeutsch") is None


@pytest.mark.parametrize("written", ["tax return", "TAX RETURN", " Tax Return ", "Tax return.", "'Tax Return'"])
def test_a_class_is_recorded_as_it_was_declared(written: str) -> None:
    assert classify.parse(f'{{"category": "{written}"}}', CLASSES).category == "Tax Return"


def test_korean_classes_match_in_either_normal_form() -> None:
    decomposed = unicodedata.normalize("NFD", "세금")
    assert classify.parse(f'{{"category": "{decomposed}"}}', CLASSES).category == "세금"


def test_of_classes_that_differ_in_case_only_the_exact_one_is_taken() -> None:
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
def test_key_points_are_a_list_however_they_are_written(written: str, points: tuple[str, ...]) -> None:
    assert summarize.parse(f'{{"summary": "Short.", "key_points": {written}}}').key_points == points


@pytest.mark.parametrize(
    "points",
    [
        ("2024 was wet.",),
        ("15. März 2024: Zahlungsfrist", "5. 000 Stück", "3. Oktober: Übergabe"),
        ("1. Mai: Feiertag", "2. Mai: Feiertag"),
    ],
)
def test_a_day_or_an_amount_at_a_points_beginning_is_no_bullet(points: tuple[str, ...]) -> None:
    assert summarize.parse(json.dumps({"summary": "Short.", "key_points": points})).key_points == points


@pytest.mark.parametrize("before", ["", "Here is the JSON:\n", "It may be {this} or that.</think>"])
@pytest.mark.parametrize("summary", ["Models write <think> first.", "They write <think> and </think>."])
def test_an_answer_may_speak_of_thinking_tags(before: str, summary: str) -> None:
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
    ids=["blanks", "blanks in JSON", "blanks in a text", "cut", "thought to the end", "thought and said nothing"],
)
def test_an_answer_that_is_none_has_the_code_of_its_cause(answer: Answer, code: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(answer, CLASSES)
    assert caught.value.code == code


LETTER = '{"category": "other", "language": "ko"}'
DRAFT = '{"category": "invoice"}'


@pytest.mark.parametrize(
    "said",
    [
        f"<|channel|>analysis<|message|>It may be {DRAFT}.<|end|><|start|>assistant<|channel|>final<|message|>{LETTER}",
        f"analysisIt may be {DRAFT}.assistantfinal{LETTER}",  # the same without its control tokens
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
def test_the_last_object_that_fits_after_the_last_mark_is_the_answer(said: str) -> None:
    record = classify.parse(said, CLASSES)
    assert (record.category, record.language) == ("other", "ko")


@pytest.mark.parametrize(
    ("said", "code"),
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
def test_a_broken_answer_has_a_code_and_no_text_of_it_in_its_reason(said: str, code: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(said, CLASSES)
    assert caught.value.code == code
    assert len(caught.value.message) < 200


def test_a_thousand_objects_inside_the_answer_do_not_hide_it() -> None:
    nested = '{"a":' * 400 + "1" + "}" * 400
    assert classify.parse(f'{{"category": "other", "why": {nested}}}', CLASSES).category == "other"
    assert classify.parse(f"{nested} " * 20 + LETTER, CLASSES).category == "other"


@pytest.mark.parametrize("said", [LETTER, f"It is a letter, so {LETTER}", f"{LETTER}\n{LETTER}"])
def test_the_one_record_in_the_thinking_is_the_answer_where_the_content_is_empty(said: str) -> None:
    answer = Answer("", finish_reason="stop", reasoning=said, is_in_reasoning=True)
    assert classify.parse(answer, CLASSES).language == "ko"
    assert classify.parse(f"<think>{said}</think>", CLASSES).language == "ko"


@pytest.mark.parametrize(
    "said", ["", "It is a letter.", f"{DRAFT} or {LETTER}", '{"category": "poem"}', "x" * 5_000_000]
)
def test_thinking_that_holds_no_record_or_several_is_no_answer(said: str) -> None:
    with pytest.raises(UnusableAnswer) as caught:
        classify.parse(Answer("", finish_reason="stop", reasoning=said), CLASSES)
    assert caught.value.code in {"empty_answer", "unknown_class"}


FITTING = st.fixed_dictionaries(
    {"category": st.sampled_from(CLASSES)},
    optional={"confidence": st.one_of(st.none(), st.integers(), st.floats(), st.text()), "more": st.text()},
)


@settings(deadline=None)
@given(FITTING, st.text(), st.text(st.characters(exclude_characters='{}[]<>"◁')))
def test_a_fitting_object_is_found_whatever_stands_around_it(value: dict[str, Any], before: str, after: str) -> None:
    said = f"{before}</think>{json.dumps(value)}{after}"
    assert classify.parse(said, CLASSES).category == value["category"]


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]",:\\ \n\t<|>/thinkcategory1')))
def test_any_text_is_a_record_or_an_unusable_answer(said: str) -> None:
    with contextlib.suppress(UnusableAnswer):
        assert classify.parse(said, CLASSES).category in CLASSES


def asked_again(code: str, answer: str = "", **options: Any) -> Question | None:
    question = Question("Classify.", RequestOptions(max_tokens=200, response_schema={"type": "object"}, **options))
    return question.asked_again(UnusableAnswer(code, "category: Field required"), answer)


def test_a_second_question_repeats_the_first_and_says_what_did_not_fit() -> None:
    second = asked_again("answer_does_not_fit")
    assert second is not None
    assert second.prompt.startswith("Classify.\n\n")
    assert "category: Field required" in second.prompt
    assert second.options.response_schema is not None
    assert second.asked_again(UnusableAnswer("no_json", "none"), "") is None, "there is one repair question"


def test_after_blanks_nothing_is_enforced() -> None:
    second = asked_again("blank_answer")
    assert second is not None
    assert second.options.response_schema is None


def test_after_a_cut_the_second_question_says_so() -> None:
    second = asked_again("cut_by_max_tokens")
    assert second is not None
    assert "token limit" in second.prompt


def test_an_answer_that_ends_in_its_thinking_is_not_asked_for_again() -> None:
    assert asked_again("unclosed_thinking") is None


def test_an_empty_answer_is_asked_for_once_more_without_the_schema_that_may_have_kept_it_back() -> None:
    second = asked_again("empty_answer")
    assert second is not None
    assert second.options.response_schema is None
    assert second.asked_again(UnusableAnswer("empty_answer", "the answer is empty"), "") is None
    assert Question("Classify.", RequestOptions()).asked_again(UnusableAnswer("empty_answer", ""), "") is None


def test_thinking_nobody_wanted_is_asked_for_otherwise_and_is_no_repair() -> None:
    answer = Answer("", thinking_tokens=200)
    answer.is_worth_asking_otherwise = True
    second = asked_again("unclosed_thinking", answer)
    assert second is not None
    assert second.prompt == "Classify."


def test_the_owners_language_is_in_the_question_and_in_the_summarys_recipe_alone() -> None:
    own, korean = load_settings(), load_settings(language="ko")
    assert "the document's own language" in llm_stages(own)[SUMMARIZE].instruction
    assert llm_stages(korean)[SUMMARIZE].instruction.endswith("in Korean.")
    assert recipes(own)[SUMMARIZE] != recipes(korean)[SUMMARIZE] == recipes(load_settings(language="Korean"))[SUMMARIZE]
    assert recipes(own)[CLASSIFY] == recipes(korean)[CLASSIFY]
