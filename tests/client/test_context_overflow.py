"""Refusals of many products that report a request longer than the context, and their numbers of tokens."""

import json
from typing import Any

import httpx
import pytest

from dagster_offload.client.context_overflow import too_long_of
from dagster_offload.errors import ErrorAsAnswer
from dagster_offload.slot.chat import read_answer
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.slot.config import SlotConfig

SLOT = SlotConfig(name="deep", url="http://slot:1", model="qwen")


def refusal(status_code: int, body: Any) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://slot:1/v1/chat/completions")
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status_code, content=content))


def error_body(message: str, **fields: Any) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


# The messages of these servers. llama.cpp's is from a run; those of vLLM, LM Studio, omlx, mlx-serve and vmlx are quoted
# from those projects' issues (20409, 546 and 2322, 169, 66, 253), TabbyAPI's from SillyTavern's (3543); those from DwarfStar
# to z.AI, and Ollama's second, are what coding agents recognise; the others were written by hand.
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
        ContextOverflow(16384, 20767),
    ),
    "LM Studio, with the tokens to keep": (
        400,
        {
            "error": "The number of tokens to keep from the initial prompt is greater than the context length "
            "(n_keep: 9000>= n_ctx: 4096). Try to load the model with a larger context length."
        },
        ContextOverflow(4096, 9000),
    ),
    "LM Studio, an engine of llama.cpp": (
        400,
        {"error": "Cannot truncate prompt with n_keep (9000) >= n_ctx (4096)"},
        ContextOverflow(4096, 9000),
    ),
    "Ollama, by how much": (
        400,
        error_body("prompt too long; exceeded max context length by 65590 tokens (ref: 632ffad5)"),
        ContextOverflow(),
    ),
    "MiniMax, with its code": (
        400,
        error_body("invalid params, context window exceeds limit (2013)"),
        ContextOverflow(),
    ),
    "TabbyAPI": (
        400,
        error_body("Request length 71599 + 2048 is greater than max_seq_len 65536"),
        ContextOverflow(65536, 71599),
    ),
    "TabbyAPI, older": (
        400,
        error_body("Context length 5000 is greater than max_seq_len 4096"),
        ContextOverflow(4096),
    ),
    "TGI, newer": (
        422,
        {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"},
        ContextOverflow(4096, 5000),
    ),
    "SGLang, newer": (
        400,
        error_body("Input length (9000 tokens) exceeds the maximum allowed length (8187 tokens)."),
        ContextOverflow(8187, 9000),
    ),
    "llama.cpp, old": (500, error_body("Input prompt is too big compared to KV size."), ContextOverflow()),
    "DwarfStar": (
        400,
        error_body("Prompt has 40,000 tokens, but the configured context size is 32,768 tokens"),
        ContextOverflow(32768, 40000),
    ),
    "OpenRouter": (
        400,
        error_body("Input length 131393 exceeds the maximum allowed input length of 131040 tokens."),
        ContextOverflow(131040, 131393),
    ),
    "Copilot": (
        400,
        error_body("prompt token count of 9000 exceeds the limit of 8192"),
        ContextOverflow(8192, 9000),
    ),
    "Gemini": (
        400,
        error_body("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."),
        ContextOverflow(1048575, 1196265),
    ),
    "xAI": (
        400,
        error_body("This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        ContextOverflow(131072, 537812),
    ),
    "Mistral": (
        400,
        error_body("Prompt contains 300000 tokens and 0 images too large for model with 262144 maximum context length"),
        ContextOverflow(262144, 300000),
    ),
    "Moonshot": (
        400,
        error_body("Your request exceeded model token limit: 262144 (requested: 300000)"),
        ContextOverflow(262144, 300000),
    ),
    "DashScope": (400, error_body("Range of input length should be [1, 129024]"), ContextOverflow(129024)),
    "z.AI": (400, {"code": "1261", "message": "Prompt exceeds max length"}, ContextOverflow()),
    "Groq": (400, error_body("Please reduce the length of the messages or completion."), ContextOverflow()),
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
        (400, error_body("request tokens per minute exceed the limit of 6000")),
        (400, error_body("Input tokens exceed the daily quota of your plan")),
        (400, error_body("Unrecognized key(s) in object: 'n_keep'")),
        (400, error_body("Your request exceeds the maximum usage size allowed during peak load.")),
        (500, error_body("request count exceeds the limit of 100")),
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
