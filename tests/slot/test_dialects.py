"""Which variants a request uses, and what an answer shows about them."""

from collections.abc import Mapping
from typing import Any

import pytest

from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.dialects import (
    COST_OF_THE_USER_MESSAGE,
    EFFORT_MINIMAL,
    EFFORT_NONE,
    IN_USER_MESSAGE,
    JSON_SCHEMA,
    MAX_COMPLETION_TOKENS,
    MAX_TOKENS,
    NO_THINK,
    OBJECT,
    OBJECT_WITH_SCHEMA,
    SYSTEM_MESSAGE,
    TEMPLATE,
    VARIANTS,
    Dialects,
    Feature,
    Finding,
    after_a_wake,
    after_an_hour,
    dialects_in_words,
    request_json,
    request_thinking,
)
from dagster_offload.slot.part_refusals import refused_feature

SCHEMA = {"type": "object", "properties": {"category": {"enum": ["letter"]}}}
ASKED = RequestOptions(max_tokens=200, thinking=False, response_schema=SCHEMA)
GOOD = '{"category": "letter"}'


def after(dialects: Dialects, answer: Answer, document: int | None = None) -> Mapping[Feature, str | None]:
    """The variants in use after the server's answer to a request; `document` None means a new document."""
    dialects.learn(dialects.variants, ASKED, answer, document)
    return dialects.variants


def test_a_variant_that_is_obeyed_stays_in_use() -> None:
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
@pytest.mark.parametrize("text", ["It is a letter.", f"```json\n{GOOD}\n```", f"Here: {GOOD}", '["letter"]', ""])
def test_a_variant_is_dropped_when_the_answers_to_three_documents_do_not_obey_it(text: str) -> None:
    dialects, answer = Dialects(), Answer(text, finish_reason="stop")
    assert [after(dialects, answer)[Feature.JSON] for _ in range(3)] == [JSON_SCHEMA, JSON_SCHEMA, OBJECT_WITH_SCHEMA]


def test_one_document_never_ends_a_json_variant() -> None:
    dialects = Dialects()
    for _ in range(10):
        assert after(dialects, PROSE, document=7)[Feature.JSON] == JSON_SCHEMA


def test_one_good_answer_clears_the_evidence() -> None:
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
def test_an_answer_without_evidence_changes_nothing(answer: Answer) -> None:
    dialects = Dialects()
    for _ in range(5):
        assert after(dialects, answer)[Feature.JSON] == JSON_SCHEMA


def test_json_in_the_reasoning_field_obeys_and_is_not_thinking() -> None:
    dialects = Dialects()
    variants = after(dialects, Answer("", finish_reason="stop", reasoning=GOOD, is_in_reasoning=True))
    assert (variants[Feature.JSON], variants[Feature.NO_THINKING]) == (JSON_SCHEMA, TEMPLATE)
    assert dialects.findings["response_format"] == {JSON_SCHEMA: "obeyed in its reasoning"}


def test_without_a_usable_variant_the_prompt_alone_requests_json() -> None:
    dialects = Dialects()
    for _ in range(3 * len(VARIANTS[Feature.JSON])):
        after(dialects, PROSE)
    body: dict[str, Any] = {}
    request_json(body, dialects.variant(Feature.JSON), SCHEMA)
    assert body == {}


def test_the_document_and_the_token_limit_are_always_sent() -> None:
    dialects = Dialects()
    assert (dialects.variant(Feature.DOCUMENT), dialects.variant(Feature.TOKEN_LIMIT)) == (SYSTEM_MESSAGE, MAX_TOKENS)
    for variant in (SYSTEM_MESSAGE, IN_USER_MESSAGE):
        dialects.note_refusal(Feature.DOCUMENT, variant, is_about_one_answer=True)
    for variant in (MAX_TOKENS, MAX_COMPLETION_TOKENS):
        dialects.note_refusal(Feature.TOKEN_LIMIT, variant, is_about_one_answer=False)
    assert (dialects.variant(Feature.DOCUMENT), dialects.variant(Feature.TOKEN_LIMIT)) == (
        IN_USER_MESSAGE,
        MAX_COMPLETION_TOKENS,
    )


def good(dialects: Dialects, now: float = 0.0) -> str | None:
    """The variant of JSON in use after an answer with JSON."""
    dialects.learn(dialects.variants, ASKED, Answer(GOOD, finish_reason="stop"), None, now)
    return dialects.variants[Feature.JSON]


@pytest.mark.rule("answer-5")
@pytest.mark.parametrize("garbage", range(1, 14))
def test_a_spell_of_garbage_of_any_length_leaves_the_variant_that_was_obeyed(garbage: int) -> None:
    dialects = Dialects()
    good(dialects)
    for _ in range(garbage):
        assert after(dialects, PROSE)[Feature.JSON] is not None
    good(dialects)
    assert good(dialects) == JSON_SCHEMA
    assert set(dialects.findings["response_format"].values()) == {"obeyed"}


@pytest.mark.rule("answer-5")
def test_blanks_without_end_however_json_is_requested_leave_the_prompt_alone() -> None:
    dialects = Dialects()
    good(dialects)
    used = [after(dialects, Answer(" " * 300, finish_reason="length"))[Feature.JSON] for _ in range(12)]
    assert used == [*[JSON_SCHEMA] * 2, *[OBJECT_WITH_SCHEMA] * 3, *[OBJECT] * 3, *[JSON_SCHEMA] * 3, None]
    assert good(dialects) is None


@pytest.mark.rule("answer-5")
def test_a_server_that_gives_no_json_in_any_way_shows_nothing_about_the_variants() -> None:
    dialects = Dialects()
    for _ in range(3 * (len(VARIANTS[Feature.JSON]) + 1)):
        after(dialects, PROSE)
    assert dialects.variants[Feature.JSON] == JSON_SCHEMA
    assert "response_format" not in dialects.findings


def test_the_prompt_alone_stays_in_use_while_it_gives_json() -> None:
    dialects = Dialects()
    for _ in range(3 * len(VARIANTS[Feature.JSON])):
        after(dialects, PROSE)
    for text in (f"Here: {GOOD}", "prose", "prose") * 4:
        assert after(dialects, Answer(text, finish_reason="stop"))[Feature.JSON] is None


@pytest.mark.rule("answer-5")
def test_a_variant_that_is_no_longer_obeyed_is_tried_again_once_an_hour() -> None:
    dialects = Dialects()
    good(dialects)
    for _ in range(3):
        after(dialects, PROSE)
    assert good(dialects) == JSON_SCHEMA, "the other one is obeyed: is it better?"
    assert after(dialects, PROSE)[Feature.JSON] == OBJECT_WITH_SCHEMA, "it is"
    assert dialects.finding(Feature.JSON, JSON_SCHEMA) is Finding.LOST
    assert [good(dialects, now) for now in (10.0, 3599.0)] == [OBJECT_WITH_SCHEMA] * 2
    assert good(dialects, 3600.0) == JSON_SCHEMA
    dialects.learn(dialects.variants, ASKED, PROSE, None, 3601.0)
    assert [good(dialects, now) for now in (3602.0, 7200.0, 7201.0)] == [OBJECT_WITH_SCHEMA] * 2 + [JSON_SCHEMA]


def test_a_later_process_tries_a_variant_that_was_obeyed_before_after_an_hour_or_a_wake() -> None:
    lost = {"response_format": {JSON_SCHEMA: "no longer obeyed", OBJECT_WITH_SCHEMA: "obeyed"}}
    assert good(Dialects(lost)) == OBJECT_WITH_SCHEMA
    assert good(Dialects(after_an_hour(lost))) == JSON_SCHEMA
    assert Dialects(after_a_wake(lost)).variants[Feature.JSON] == JSON_SCHEMA


@pytest.mark.rule("answer-5")
def test_after_a_wake_dropped_json_variants_are_tried_again_and_other_findings_stay() -> None:
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


def test_the_variants_in_use_are_described_with_their_findings() -> None:
    dialects = Dialects()
    dialects.note(Feature.JSON, JSON_SCHEMA, Finding.EMPTY)
    dialects.note(Feature.JSON, OBJECT_WITH_SCHEMA, Finding.OBEYED)
    dialects.note(Feature.DOCUMENT, SYSTEM_MESSAGE, Finding.REFUSED)
    assert dialects_in_words(dialects) == [
        "JSON is requested as json_object with schema (json_schema: answered with nothing, json_object with schema: obeyed)",
        "no thinking is requested as chat_template_kwargs (not tried yet)",
        "the document is sent as part of the user message (system message: refused)",
        "the token limit is sent as max_tokens",
        COST_OF_THE_USER_MESSAGE,
    ]


def test_variants_against_thinking_are_tried_in_order() -> None:
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
        (NO_THINK, True),  # extra tokens are left to try
        (None, False),
    ]


def test_an_obeyed_variant_is_dropped_only_after_three_answers_in_a_row() -> None:
    dialects, thinking = Dialects(), Answer("", finish_reason="length", thinking_tokens=9)
    good = Answer(GOOD, finish_reason="stop")
    for answer in (good, thinking, thinking, good, thinking, thinking):
        assert after(dialects, answer)[Feature.NO_THINKING] == TEMPLATE
        assert not answer.is_worth_asking_otherwise
    assert after(dialects, thinking)[Feature.NO_THINKING] == EFFORT_NONE


def test_endless_blanks_end_a_json_variant_at_the_third_answer() -> None:
    dialects, blanks = Dialects(), Answer("{" + "\n" * 300, finish_reason="length")
    assert [after(dialects, blanks)[Feature.JSON] for _ in range(3)] == [JSON_SCHEMA, JSON_SCHEMA, OBJECT_WITH_SCHEMA]


def test_a_refusal_about_one_answer_ends_a_variant_at_the_third_and_another_one_at_once() -> None:
    dialects = Dialects()
    for _ in range(2):
        dialects.note_refusal(Feature.JSON, JSON_SCHEMA, is_about_one_answer=True)
        assert dialects.variant(Feature.JSON) == JSON_SCHEMA
    dialects.note_refusal(Feature.JSON, JSON_SCHEMA, is_about_one_answer=True)
    assert dialects.variant(Feature.JSON) == OBJECT_WITH_SCHEMA
    dialects.note_refusal(Feature.JSON, OBJECT_WITH_SCHEMA, is_about_one_answer=False)
    assert dialects.variant(Feature.JSON) == OBJECT


def test_findings_are_restored_and_unknown_ones_are_ignored() -> None:
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
def test_each_variant_against_thinking_adds_its_key(variant: str | None, part: dict[str, Any]) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Classify."}]}
    request_thinking(body, variant, wanted=False)
    assert body == {"messages": [{"role": "user", "content": "Classify."}], **part}


def test_no_think_is_added_at_the_end_of_the_prompt() -> None:
    body: dict[str, Any] = {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "Classify."}]}
    request_thinking(body, NO_THINK, wanted=False)
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
def test_a_refusal_names_the_feature_that_it_is_about(status_code: int, text: str, feature: Feature | None) -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}],
        "response_format": {},
        "chat_template_kwargs": {},
        "reasoning_effort": "none",
        "max_tokens": 200,
    }
    assert refused_feature(status_code, text, body) == feature
    assert refused_feature(status_code, text, {}) is None
