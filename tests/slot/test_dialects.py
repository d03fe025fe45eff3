"""Which dialect a server is asked in, and what an answer shows of it."""

from typing import Any

import pytest

from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.dialects import (
    EFFORT_MINIMAL,
    EFFORT_NONE,
    IN_USER_MESSAGE,
    JSON_SCHEMA,
    MAX_COMPLETION_TOKENS,
    MAX_TOKENS,
    NO_THINK,
    OBJECT,
    OBJECT_WITH_SCHEMA,
    PRICE_OF_THE_USER_MESSAGE,
    SYSTEM_MESSAGE,
    TEMPLATE,
    VARIANTS,
    Dialects,
    Feature,
    Finding,
    after_a_wake,
    ask_about_thinking,
    ask_for_json,
    dialects_in_words,
)
from dagster_offload.slot.part_refusals import refused_feature

SCHEMA = {"type": "object", "properties": {"category": {"enum": ["letter"]}}}
ASKED = RequestOptions(max_tokens=200, thinking=False, response_schema=SCHEMA)
GOOD = '{"category": "letter"}'


def after(dialects: Dialects, answer: Answer, document: int | None = None) -> dict[Feature, str | None]:
    """The ways in use once the server has answered a request in the present ones, about a document of its own."""
    dialects.learn(dialects.variants, ASKED, answer, document)
    return dialects.variants


def test_a_server_that_obeys_is_asked_in_the_same_way_again() -> None:
    dialects = Dialects()
    variants = after(dialects, Answer(GOOD, finish_reason="stop"))
    assert (variants[Feature.JSON], variants[Feature.NO_THINKING]) == (JSON_SCHEMA, TEMPLATE)
    assert dialects.findings == {
        "response_format": {JSON_SCHEMA: "obeyed"},
        "thinking_off": {TEMPLATE: "obeyed"},
    }


PROSE = Answer("It is a letter.", finish_reason="stop")
NOTHING = Answer("", finish_reason="stop")


@pytest.mark.rule("answer-5")
@pytest.mark.parametrize("said", ["It is a letter.", f"```json\n{GOOD}\n```", f"Here: {GOOD}", '["letter"]', ""])
def test_a_way_is_dropped_when_the_answers_to_three_documents_show_that_it_is_not_obeyed(said: str) -> None:
    dialects, answer = Dialects(), Answer(said, finish_reason="stop")
    assert [after(dialects, answer)[Feature.JSON] for _ in range(3)] == [JSON_SCHEMA, JSON_SCHEMA, OBJECT_WITH_SCHEMA]


def test_json_mode_is_not_lost_by_one_document_however_often_it_is_asked_about() -> None:
    dialects = Dialects()
    for _ in range(10):
        assert after(dialects, PROSE, document=7)[Feature.JSON] == JSON_SCHEMA


def test_one_good_answer_ends_all_doubt() -> None:
    dialects = Dialects()
    for answer in (PROSE, NOTHING, Answer(GOOD, finish_reason="stop"), PROSE, NOTHING):
        assert after(dialects, answer)[Feature.JSON] == JSON_SCHEMA


@pytest.mark.parametrize(
    "answer",
    [
        Answer('{"category": "let', finish_reason="length"),
        Answer("<think>Hm.", finish_reason="stop", thinking_tokens=1),
    ],
    ids=["cut", "thinking"],
)
def test_an_answer_that_shows_nothing_changes_nothing(answer: Answer) -> None:
    dialects = Dialects()
    for _ in range(5):
        assert after(dialects, answer)[Feature.JSON] == JSON_SCHEMA


def test_json_in_the_field_for_thinking_obeys_the_wish_and_is_no_thinking() -> None:
    dialects = Dialects()
    variants = after(dialects, Answer("", finish_reason="stop", reasoning=GOOD, is_in_reasoning=True))
    assert (variants[Feature.JSON], variants[Feature.NO_THINKING]) == (JSON_SCHEMA, TEMPLATE)
    assert dialects.findings["response_format"] == {JSON_SCHEMA: "obeyed in its reasoning"}


def test_where_no_way_is_left_the_prompt_alone_asks() -> None:
    dialects = Dialects()
    for _ in range(3 * len(VARIANTS[Feature.JSON])):
        after(dialects, PROSE)
    body: dict[str, Any] = {}
    ask_for_json(body, dialects.variant(Feature.JSON), SCHEMA)
    assert body == {}


def test_the_document_and_the_limit_are_sent_whatever_was_refused() -> None:
    dialects = Dialects()
    assert (dialects.variant(Feature.DOCUMENT), dialects.variant(Feature.TOKEN_LIMIT)) == (SYSTEM_MESSAGE, MAX_TOKENS)
    for variant in (SYSTEM_MESSAGE, IN_USER_MESSAGE):
        dialects.note_refusal(Feature.DOCUMENT, variant, 500)
    for variant in (MAX_TOKENS, MAX_COMPLETION_TOKENS):
        dialects.note_refusal(Feature.TOKEN_LIMIT, variant, 400)
    assert (dialects.variant(Feature.DOCUMENT), dialects.variant(Feature.TOKEN_LIMIT)) == (
        IN_USER_MESSAGE,
        MAX_COMPLETION_TOKENS,
    )


@pytest.mark.rule("answer-5")
def test_after_a_wake_dropped_ways_of_asking_for_json_get_another_chance_and_the_rest_stays() -> None:
    dialects = Dialects()
    for feature, variant in (
        (Feature.JSON, JSON_SCHEMA),
        (Feature.NO_THINKING, TEMPLATE),
        (Feature.DOCUMENT, SYSTEM_MESSAGE),
    ):
        dialects.note(feature, variant, Finding.REFUSED)
    dialects.note(Feature.JSON, OBJECT_WITH_SCHEMA, Finding.OBEYED)
    variants = Dialects(after_a_wake(dialects.findings)).variants
    assert variants[Feature.JSON] == JSON_SCHEMA
    assert (variants[Feature.NO_THINKING], variants[Feature.DOCUMENT]) == (EFFORT_NONE, IN_USER_MESSAGE)


def test_what_is_used_and_why_is_said_in_words() -> None:
    dialects = Dialects()
    dialects.note(Feature.JSON, JSON_SCHEMA, Finding.EMPTY)
    dialects.note(Feature.JSON, OBJECT_WITH_SCHEMA, Finding.OBEYED)
    dialects.note(Feature.DOCUMENT, SYSTEM_MESSAGE, Finding.REFUSED)
    assert dialects_in_words(dialects) == [
        "JSON is asked for as json_object with schema (json_schema: answered with nothing, json_object with schema: obeyed)",
        "thinking is switched off as chat_template_kwargs (not tried yet)",
        "the document is sent as part of the user message (system message: refused)",
        "the token limit is sent as max_tokens",
        PRICE_OF_THE_USER_MESSAGE,
    ]


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
    variants = Dialects(dialects.findings).variants
    assert (variants[Feature.JSON], variants[Feature.NO_THINKING]) == (OBJECT_WITH_SCHEMA, EFFORT_NONE)
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
        (400, "System role not supported", Feature.DOCUMENT),
        (500, "\\n------------\\nWhile executing CallExpression at line 1, column 4:\\n^\\nError: Jinja Exception: "
              "System role not supported", Feature.DOCUMENT),
        (404, "System role not supported", Feature.DOCUMENT),
        (500, "Conversation roles must alternate user/assistant/user/assistant/...", Feature.DOCUMENT),
        (500, "Only user, assistant and tool roles are supported, got system", Feature.DOCUMENT),
        (400, "This model does not support system messages", Feature.DOCUMENT),
        (400, "Developer instruction is not enabled for models/gemma-3-27b-it", Feature.DOCUMENT),
        (404, "model 'system' not found", None),
        (400, "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
              "instead.", Feature.TOKEN_LIMIT),
        (422, '{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}', Feature.TOKEN_LIMIT),
        (400, "unknown parameter: max_tokens", Feature.TOKEN_LIMIT),
        (400, "max_tokens=4200 cannot be greater than max_model_len=4096", None),
        (400, "'max_tokens' or 'max_completion_tokens' is too large: 1500. This model's maximum context length is 2048 "
              "tokens and your request has 1000 input tokens (1500 > 2048 - 1000).", None),
    ],
)  # fmt: skip
def test_a_refusal_is_read_for_the_wish_it_is_about(status_code: int, text: str, feature: Feature | None) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}],
        "response_format": {},
        "chat_template_kwargs": {},
        "reasoning_effort": "none",
        "max_tokens": 200,
    }
    assert refused_feature(status_code, text, body) == feature
    assert refused_feature(status_code, text, {}) is None
