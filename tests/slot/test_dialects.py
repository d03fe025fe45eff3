"""Which dialect a server is asked in, and what an answer shows of it."""

from typing import Any

import pytest

from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.dialects import (
    EFFORT_MINIMAL,
    EFFORT_NONE,
    JSON_SCHEMA,
    NO_THINK,
    OBJECT,
    OBJECT_WITH_SCHEMA,
    TEMPLATE,
    VARIANTS,
    Dialects,
    Feature,
    Finding,
    ask_about_thinking,
    ask_for_json,
    refused_feature,
)
from dagster_offload.slot.thinking import split_thinking

SCHEMA = {"type": "object", "properties": {"category": {"enum": ["letter"]}}}
ASKED = RequestOptions(max_tokens=200, thinking=False, response_schema=SCHEMA)
GOOD = '{"category": "letter"}'


def after(dialects: Dialects, answer: Answer) -> dict[Feature, str | None]:
    """The ways in use once the server has answered a request in the present ones."""
    dialects.learn(dialects.variants, ASKED, answer)
    return dialects.variants


def test_a_server_that_obeys_is_asked_in_the_same_way_again() -> None:
    dialects = Dialects()
    assert after(dialects, Answer(GOOD, finish_reason="stop")) == {
        Feature.JSON: JSON_SCHEMA,
        Feature.NO_THINKING: TEMPLATE,
    }
    assert dialects.findings == {
        "response_format": {JSON_SCHEMA: "obeyed"},
        "thinking_off": {TEMPLATE: "obeyed"},
    }


@pytest.mark.parametrize("said", ["It is a letter.", f"```json\n{GOOD}\n```", f"Here: {GOOD}", '["letter"]'])
def test_an_answer_no_schema_would_let_through_shows_that_it_was_ignored(said: str) -> None:
    assert after(Dialects(), Answer(said, finish_reason="stop"))[Feature.JSON] == OBJECT_WITH_SCHEMA


@pytest.mark.parametrize(
    "answer",
    [
        Answer('{"category": "let', finish_reason="length"),
        Answer("", finish_reason="stop"),
        Answer("<think>Hm.", finish_reason="stop", thinking_tokens=1),
    ],
    ids=["cut", "empty", "thinking"],
)
def test_an_answer_that_shows_nothing_changes_nothing(answer: Answer) -> None:
    assert after(Dialects(), answer)[Feature.JSON] == JSON_SCHEMA


def test_where_no_way_is_left_the_prompt_alone_asks() -> None:
    dialects = Dialects()
    for _ in VARIANTS[Feature.JSON]:
        after(dialects, Answer("It is a letter.", finish_reason="stop"))
    body: dict[str, Any] = {}
    ask_for_json(body, dialects.variant(Feature.JSON), SCHEMA)
    assert body == {}


def test_thinking_tries_one_way_after_the_other_and_says_while_another_is_left() -> None:
    dialects, seen = Dialects(), []
    for _ in range(len(VARIANTS[Feature.NO_THINKING]) + 1):
        answer = Answer("", finish_reason="length", thinking_tokens=200)
        variants = dialects.variants
        dialects.learn(variants, ASKED, answer)
        seen.append((variants[Feature.NO_THINKING], answer.is_worth_asking_otherwise))
    assert seen == [
        (TEMPLATE, True),
        (EFFORT_NONE, True),
        (EFFORT_MINIMAL, True),
        (NO_THINK, True),  # room to think is left to try
        (None, False),
    ]


def test_a_server_that_obeyed_is_doubted_only_after_three_answers_in_a_row() -> None:
    dialects, thinking = Dialects(), Answer("", finish_reason="length", thinking_tokens=9)
    good = Answer(GOOD, finish_reason="stop")
    for answer in (good, thinking, thinking, good, thinking, thinking):
        assert after(dialects, answer)[Feature.NO_THINKING] == TEMPLATE
        assert not answer.is_worth_asking_otherwise
    assert after(dialects, thinking)[Feature.NO_THINKING] == EFFORT_NONE


def test_blanks_without_end_are_believed_to_be_the_schemas_doing_at_the_third_time() -> None:
    dialects, blanks = Dialects(), Answer("{" + "\n" * 300, finish_reason="length")
    assert [after(dialects, blanks)[Feature.JSON] for _ in range(3)] == [JSON_SCHEMA, JSON_SCHEMA, OBJECT_WITH_SCHEMA]


def test_a_500_is_believed_at_the_third_time_and_a_400_at_once() -> None:
    dialects = Dialects()
    for _ in range(2):
        dialects.note_refusal(Feature.JSON, JSON_SCHEMA, 500)
        assert dialects.variant(Feature.JSON) == JSON_SCHEMA
    dialects.note_refusal(Feature.JSON, JSON_SCHEMA, 500)
    assert dialects.variant(Feature.JSON) == OBJECT_WITH_SCHEMA
    dialects.note_refusal(Feature.JSON, OBJECT_WITH_SCHEMA, 400)
    assert dialects.variant(Feature.JSON) == OBJECT


def test_what_was_found_survives_a_process_and_what_is_not_known_is_passed_over() -> None:
    dialects = Dialects()
    dialects.note(Feature.JSON, JSON_SCHEMA, Finding.REFUSED)
    dialects.note(Feature.NO_THINKING, TEMPLATE, Finding.IGNORED)
    assert Dialects(dialects.findings).variants == {Feature.JSON: OBJECT_WITH_SCHEMA, Feature.NO_THINKING: EFFORT_NONE}
    assert Dialects({"response_format": {"xml": "obeyed", JSON_SCHEMA: "liked"}, "mood": {}}).findings == {}


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        (TEMPLATE, {"chat_template_kwargs": {"enable_thinking": False}}),
        (EFFORT_NONE, {"reasoning_effort": "none"}),
        (EFFORT_MINIMAL, {"reasoning_effort": "minimal"}),
        (None, {}),
    ],
)
def test_each_way_not_to_think_has_its_part(variant: str | None, part: dict[str, Any]) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Classify."}]}
    ask_about_thinking(body, variant, wanted=False)
    assert body == {"messages": [{"role": "user", "content": "Classify."}], **part}


def test_a_word_in_the_prompt_stands_at_its_very_end() -> None:
    body: dict[str, Any] = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Classify."}]}
    ask_about_thinking(body, NO_THINK, wanted=False)
    assert body["messages"] == [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "Classify.\n\n/no_think"},
    ]


@pytest.mark.parametrize(
    ("status_code", "text", "feature"),
    [
        (400, "'response_format' is not supported", Feature.JSON),
        (400, "This response_format type is unavailable now", Feature.JSON),
        (422, "guided decoding is off", Feature.JSON),
        (500, "output does not match the expected peg-native format", Feature.JSON),
        (400, "Unrecognized request argument supplied: chat_template_kwargs", Feature.NO_THINKING),
        (400, "Unsupported value: 'reasoning_effort' does not support 'none' with this model", Feature.NO_THINKING),
        (400, "exceed_context_size_error", None),
        (500, "out of memory", None),
        (503, "response_format", None),
        (200, "response_format", None),
    ],
)
def test_a_refusal_is_read_for_the_wish_it_is_about(status_code: int, text: str, feature: Feature | None) -> None:
    body: dict[str, Any] = {"response_format": {}, "chat_template_kwargs": {}, "reasoning_effort": "none"}
    assert refused_feature(status_code, text, body) == feature
    assert refused_feature(status_code, text, {}) is None


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        (GOOD, "", GOOD),
        (f"<think>Hm.</think>\n{GOOD}", "Hm.", GOOD),
        (f"<thinking>Hm.</thinking><think>Ha.</think>{GOOD}", "Hm.Ha.", GOOD),
        (f"Hm.</think>{GOOD}", "Hm.", GOOD),
        (f"Let me see. <think>Hm.</think>{GOOD}", "Let me see. <think>Hm.", GOOD),
        ("<think>Hm.", "Hm.", None),
        ("Let me see. <think>Hm.", "Let me see. ", None),
        ('{"summary": "It closes </think> and opens <think>."}', "", '{"summary": "It closes </think> and opens <think>."}'),
    ],
)  # fmt: skip
def test_thinking_in_the_text_is_told_from_the_answer(text: str, thought: str, answer: str | None) -> None:
    assert split_thinking(text) == (thought, answer)
