"""The context size that servers report: in /v1/models, in refusals of many products, and in answers that end early."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from dagster_offload.client.context import ContextWindows, context_in, usable_context
from dagster_offload.client.context_overflow import too_long_of
from dagster_offload.errors import ErrorAsAnswer
from dagster_offload.slot.chat import read_answer
from dagster_offload.slot.completion import Answer, ContextOverflow, Usage
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.tokens import DEFAULT_CONTEXT_TOKENS, estimated_tokens

SLOT = SlotConfig(name="deep", url="http://slot:1", model="qwen")


def refusal(status_code: int, body: Any) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://slot:1/v1/chat/completions")
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status_code, content=content))


def error_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


# The messages of these servers. llama.cpp's is from a run; those of vLLM, LM Studio, omlx, mlx-serve and vmlx are quoted
# from those projects' issues (20409, 546 and 2322, 169, 66, 253); the others were written by hand.
REFUSALS = {
    "llama.cpp": (
        400,
        error_body(
            "request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it",
            type="exceed_context_size_error",
            n_prompt_tokens=9000,
            n_ctx=8192,
        ),
        ContextOverflow(8192, 9000),
    ),
    "OpenAI": (
        400,
        error_body(
            "This model's maximum context length is 16385 tokens. However, your messages resulted in 20,000 tokens.",
            code="context_length_exceeded",
        ),
        ContextOverflow(16385, 20000),
    ),
    "vLLM": (
        400,
        error_body(
            "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (3500 in the "
            "messages, 1500 in the completion). Please reduce the length of the messages or completion."
        ),
        ContextOverflow(4096, 3500),
    ),
    "vLLM, newer": (
        400,
        {
            "object": "error",
            "message": "'max_tokens' or 'max_completion_tokens' is too large: 1500. This model's maximum context length is "
            "2048 tokens and your request has 1000 input tokens (1500 > 2048 - 1000).",
        },
        ContextOverflow(2048, 1000),
    ),
    "vLLM, a token limit above the context": (
        400,
        error_body("max_tokens=4200 cannot be greater than max_model_len=4096. Please request fewer output tokens."),
        ContextOverflow(4096),
    ),
    "vLLM, its newest message": (
        400,
        error_body(
            "max_output_tokens=4200 cannot be greater than max_total_tokens=4096. Please request fewer output tokens."
        ),
        ContextOverflow(4096),
    ),
    "vLLM, older": (
        400,
        {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."},
        ContextOverflow(4096, 5000),
    ),
    "SGLang": (
        400,
        error_body("The input (5000 tokens) is longer than the model's context length (4096 tokens)."),
        ContextOverflow(4096, 5000),
    ),
    "LM Studio": (
        400,
        {
            "error": "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
            "context length of only 4096 tokens, which is not enough."
        },
        ContextOverflow(4096, 9000),
    ),
    "LM Studio, without numbers": (
        400,
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length."},
        ContextOverflow(),
    ),
    "Ollama": (500, {"error": "input length exceeds maximum context length"}, ContextOverflow()),
    "LiteLLM": (
        400,
        error_body("litellm.ContextWindowExceededError: This model's maximum context length is 8192 tokens."),
        ContextOverflow(8192),
    ),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` "
            "tokens and 1500 `max_new_tokens`"
        },
        ContextOverflow(4096, 5000),
    ),
    "Anthropic behind a router": (
        400,
        error_body("prompt is too long: 210000 tokens > 200000 maximum"),
        ContextOverflow(200000, 210000),
    ),
    "omlx": (
        400,
        error_body("Prompt too long: 50000 tokens exceeds max context window of 32768 tokens"),
        ContextOverflow(32768, 50000),
    ),
    "mlx-serve": (400, error_body("Prompt exceeds maximum context length"), ContextOverflow()),
    "vmlx": (
        500,
        error_body("prompt_too_long: tokenized VLM text prompt has 20767 tokens, max prompt/context tokens is 16384"),
        ContextOverflow(),
    ),
    "a proxy, in plain text": (413, "prompt too long", ContextOverflow()),
    "nginx": (413, "<html><title>413 Request Entity Too Large</title></html>", ContextOverflow(is_guess=True)),
}


@pytest.mark.parametrize(("status_code", "body", "word"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_context_overflow_is_recognised_for_every_server(status_code: int, body: Any, word: ContextOverflow) -> None:
    assert too_long_of(refusal(status_code, body)) == word


@pytest.mark.parametrize(
    ("status_code", "body"),
    [
        (400, error_body("unknown parameter: response_format")),
        (400, error_body("model not found: my-context-length-model")),
        (400, error_body("max_tokens must be at least 1")),
        (429, error_body("too many tokens per minute")),
        (503, error_body("maximum context length is 4096 tokens")),
        (500, {"echo": "a document that speaks of a maximum context length of 4096 tokens " * 20}),
        (500, ""),
    ],
)
def test_other_refusals_and_echoed_documents_are_not_overflows(status_code: int, body: Any) -> None:
    assert too_long_of(refusal(status_code, body)) is None


def test_an_overflow_sent_with_http_200_is_recognised() -> None:
    body = json.dumps({"error": "The model is loaded with context length of only 4096 tokens, which is not enough."})
    with pytest.raises(ErrorAsAnswer) as caught:
        read_answer(SLOT, body.encode(), {}, 1.0)
    assert too_long_of(caught.value) == ContextOverflow(4096)
    assert "4096" not in str(caught.value), "no error shows a body"


def test_implausible_numbers_are_ignored() -> None:
    assert (
        too_long_of(refusal(400, error_body("exceeds the context", type="exceed_context_size_error", n_ctx=0)))
        == ContextOverflow()
    )


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
