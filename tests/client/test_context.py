"""The context size that servers report: in /v1/models, and in answers that end early."""

import json
from dataclasses import replace

import pytest

from dagster_offload.client.context import ContextWindows, context_in, usable_context
from dagster_offload.slot.chat import read_answer
from dagster_offload.slot.completion import Answer, ContextOverflow, Usage
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, estimated_tokens

SLOT = SlotConfig(name="deep", url="http://slot:1", model="qwen")


@pytest.mark.parametrize(
    ("models", "tokens"),
    [
        ({"data": [{"id": "/models/x.gguf", "meta": {"n_ctx": 8192, "n_ctx_train": 262144}}]}, 8192),
        ({"data": [{"id": "qwen", "max_model_len": 16384}]}, 16384),
        ({"data": [{"id": "qwen", "max_context_length": 4096}]}, 4096),
        ({"data": [{"id": "a", "max_model_len": 1024}, {"id": "qwen", "max_model_len": 2048}]}, 2048),
        ({"data": [{"id": "a", "max_model_len": 1024}, {"id": "b", "max_model_len": 2048}]}, None),
        ({"data": [{"id": "qwen"}]}, None),
        ({"data": [{"id": "qwen", "meta": None, "max_model_len": "many"}]}, None),
        ({"data": "nonsense"}, None),
        ([], None),
    ],
)
def test_the_context_in_a_list_of_models(models: object, tokens: int | None) -> None:
    assert context_in(models, "qwen") == tokens


def test_a_reported_context_is_used_only_up_to_the_default() -> None:
    assert usable_context(8_192) == 8_192
    assert usable_context(262_144) == DEFAULT_CONTEXT_TOKENS
    assert usable_context(None) == DEFAULT_CONTEXT_TOKENS


def answer(prompt_tokens: int | None, written: int | None, finish_reason: str = "length") -> Answer:
    return Answer("{", usage=Usage(prompt_tokens, written), finish_reason=finish_reason)


@pytest.mark.parametrize(
    ("reply_to", "setting", "is_filled"),
    [
        (answer(4_000, 96), 4_096, True),  # the context is known, and it is full
        (answer(4_090, 6), None, True),  # no reported size, and the sum is a plausible context size
        (answer(3_000, 1_096), None, True),
        (answer(3_100, 1_096), None, False),
        (answer(2_590, 1_500), 4_096, False),  # its own limit
        (answer(300, 40), 4_096, False),  # another limit of the server
        (answer(4_090, 6, "stop"), 4_096, False),
        (answer(None, 6), 4_096, False),
        (answer(4_090, None), 4_096, False),
    ],
)
def test_an_answer_that_ended_because_the_context_was_full(
    reply_to: Answer, setting: int | None, *, is_filled: bool
) -> None:
    found = ContextWindows().overflow_in(replace(SLOT, context_tokens=setting), reply_to, 1_500, "")
    assert (found is not None) is is_filled


def cut_prompt(prompt: str, counted: int | None, cached: int | None = None) -> ContextOverflow | None:
    answer = Answer('{"category": "other"}', usage=Usage(counted, 20, cached), finish_reason="stop")
    return ContextWindows().overflow_in(SLOT, answer, 1_500, prompt)


PROSE = "The tenant shall pay the rent on the first day of every month to the landlord. " * 600
KOREAN = "임차인은 매월 첫째 날에 임대인에게 차임을 지급하여야 한다. " * 600
TABLE = "Hall 12.75 13.10 Stores 3.25 4.00 " * 1_500


# The lowest and the highest token count of each text with the vocabularies o200k, cl100k and Qwen.
@pytest.mark.rule("answer-6")
@pytest.mark.parametrize(
    ("text", "fewest", "most"), [(PROSE, 10_201, 10_201), (KOREAN, 12_601, 20_400), (TABLE, 27_001, 36_001)]
)
def test_a_prompt_cut_to_half_of_the_context_is_distinguished_from_every_true_count(
    text: str, fewest: int, most: int
) -> None:
    assert cut_prompt(text, fewest) is None
    assert cut_prompt(text, most) is None
    if text is not TABLE:  # signs and blanks are not counted, so two fifths more of a table must be missing
        assert cut_prompt(text, fewest // 2) == ContextOverflow(2 * (fewest // 2))
    assert cut_prompt(text, 2_048) == ContextOverflow(4_096)


def test_cached_tokens_do_not_count_as_cut() -> None:
    assert cut_prompt(PROSE, 2_048, cached=8_153) is None
    assert cut_prompt(PROSE, 120) is None, "a server that leaves the cached part out of its count"
    assert cut_prompt(PROSE, None) is None


def test_a_context_guessed_too_large_is_corrected_to_the_count_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    windows, answer = ContextWindows(), Answer("{}", usage=Usage(4_096, 20), finish_reason="stop")
    first = windows.overflow_in(SLOT, answer, 1_500, PROSE)
    assert first == ContextOverflow(8_192)
    windows.learn(SLOT, first)
    assert windows.overflow_in(SLOT, answer, 1_500, PROSE) == ContextOverflow(4_096)
    (warning,) = caplog.messages
    assert "OLLAMA_CONTEXT_LENGTH" in warning
    assert "OFFLOAD_DEEP_CONTEXT_TOKENS" in warning
    assert "tenant" not in warning


@pytest.mark.parametrize(
    ("reply_to", "prompt", "is_too_long"),
    [
        (Answer("", usage=Usage(0, 0), finish_reason="stop"), PROSE, True),
        (Answer("", usage=Usage(None, 0), finish_reason="length"), PROSE, True),
        (Answer("", usage=Usage(0, None), finish_reason="stop"), PROSE, True),
        (Answer("", usage=Usage(0, 0), finish_reason="stop"), "Short.", False),
        (Answer("", usage=Usage(0, 1), finish_reason="stop"), PROSE, False),  # the model wrote an empty answer
        (Answer("", usage=Usage(), finish_reason="stop"), PROSE, False),  # the server reports no counts
        (Answer("{}", usage=Usage(0, 0), finish_reason="stop"), PROSE, False),
    ],
)
def test_an_empty_answer_to_a_long_request_means_the_context_is_too_small(
    reply_to: Answer, prompt: str, *, is_too_long: bool
) -> None:
    found = ContextWindows().overflow_in(SLOT, reply_to, 1_500, prompt)
    half = ContextOverflow((estimated_tokens(prompt) + 1_500) // 2, is_guess=True)
    assert found == (half if is_too_long else None)


@pytest.mark.rule("answer-8")
async def test_an_empty_answer_to_one_passage_does_not_make_the_parts_of_other_documents_smaller() -> None:
    windows = ContextWindows()
    found = windows.overflow_in(SLOT, Answer("", usage=Usage(9_000, 0), finish_reason="stop"), 1_500, PROSE)
    assert found is not None
    windows.learn(SLOT, found)
    assert await windows.text_tokens(SLOT, "") == DEFAULT_CONTEXT_TOKENS - 2_000


@pytest.mark.rule("answer-8")
async def test_empty_answers_about_two_documents_make_parts_smaller_but_not_below_what_was_answered() -> None:
    windows, empty = ContextWindows(), Answer("", usage=Usage(9_000, 0), finish_reason="stop")
    found = windows.overflow_in(SLOT, empty, 1_500, PROSE)
    assert found is not None
    assert found.context_tokens is not None
    for document in (1, 1, 2):
        assert await windows.text_tokens(SLOT, "") == DEFAULT_CONTEXT_TOKENS - 2_000
        windows.learn(SLOT, found, document)
    assert await windows.text_tokens(SLOT, "") == found.context_tokens - 2_000
    answered = ContextWindows()
    answered.overflow_in(SLOT, Answer("{}", usage=Usage(20_000, 100), finish_reason="stop"), 1_500, PROSE)
    for document in (1, 2):
        answered.learn(SLOT, found, document)
    assert await answered.text_tokens(SLOT, "") == 20_100 - 2_000


@pytest.mark.rule("answer-8")
@pytest.mark.parametrize(
    ("finish_reason", "refusal"), [("content_filter", None), ("tool_calls", None), ("stop", "I cannot help with that.")]
)
def test_a_refused_passage_is_not_too_long(finish_reason: str, refusal: str | None) -> None:
    message = {"role": "assistant", "content": "", "refusal": refusal}
    body = {
        "choices": [{"message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 9_000, "completion_tokens": 0},
    }
    reply_to = read_answer(SLOT, json.dumps(body).encode(), {}, 1.0)
    assert ContextWindows().overflow_in(SLOT, reply_to, 1_500, PROSE) is None


async def test_a_context_from_a_refusal_is_kept_and_only_ever_lowered() -> None:
    windows = ContextWindows()
    assert await windows.text_tokens(SLOT, "short") == DEFAULT_CONTEXT_TOKENS - 2_000
    windows.learn(SLOT, ContextOverflow(8_192))
    windows.learn(SLOT, ContextOverflow())
    windows.learn(SLOT, ContextOverflow(16_384))
    assert await windows.text_tokens(SLOT, "long " * 50_000) == 8_192 - 2_000
