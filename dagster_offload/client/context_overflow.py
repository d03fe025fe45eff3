"""How servers report that a request exceeds their model's context, and the token counts in their messages.

Pure. No text of a body leaves this module: bodies may echo documents.
"""

import re
from collections.abc import Iterator

import httpx

from dagster_offload.client.faults import text_of
from dagster_offload.errors import ErrorAsAnswer
from dagster_offload.slot.completion import ContextOverflow
from dagster_offload.text.lenient_json import read_json, short_texts

LEAST_CONTEXT_TOKENS = 512

# The messages of llama.cpp, OpenAI, vLLM, SGLang, LM Studio (0.4 with a 200), Ollama, LiteLLM, TGI, TabbyAPI, omlx, mlx-serve,
# vmlx; and of providers behind a router: Anthropic, Gemini, xAI, Mistral, Moonshot, z.AI, DashScope, Copilot.
_TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|ContextWindowExceeded"
    r"|(?:maximum|model'?s?|available|configured|loaded with|max)\s+(?:context|model)\s+(?:length|size|window)"
    r"|exceed\w*\b.{0,40}\bcontext|\bcontext (?:length|size|window)\b.{0,40}(?:exceed|overflow)"
    r"|longer than the (?:maximum |model'?s? )?(?:context|model)"
    r"|(?:prompt|input|request)(?: \(\d+ tokens\))?[ _](?:is )?too[ _](?:long|large)|too many (?:input |prompt )?tokens"
    r"|(?:prompt|input|request|context) (?:length|tokens?)(?: count)?(?: of)?[\W\d]{0,16}(?:tokens\W{1,2})?"
    r"(?:exceeds? (?:the (?:max|limit|model|context)|model)|is greater than max_)"
    r"|max_\w*tokens\W{0,3}\d*\W{0,2}cannot be greater than|max_model_len"
    r"|reached context length|tokens to keep from the initial prompt|n_keep\b.{0,20}\bn_ctx\b"
    r"|`?inputs`? tokens \+ `?max_new_tokens`? must be"
    r"|`?inputs`? must have less than|maximum prompt length|prompt exceeds max|range of input length"
    r"|exceeded model token limit|reduce the length of the (?:messages|prompt|input)|too big compared to KV size",
    re.IGNORECASE,
)
_MAX_SEQ_LEN = re.compile(r"max_seq_len (\d[\d,]{2,})")
# Between the name of the context and its size stands nothing that begins another number: by how much it is exceeded
# (Ollama), the tokens to keep (LM Studio), or an error's code (MiniMax).
_CONTEXT_NUMBER = re.compile(
    r"(?:(?:context|model) (?:length|size|window|tokens)|max_model_len|max_total_tokens|must be <=|must have less than|>"
    r"|token limit|limit of|prompt length is|input length of|allowed length|tokens allowed|should be \[\d,)"
    r"(?:(?!\bby\b|exceed|n_keep)\D){0,24}?(\d[\d,]{2,})"
    r"|(\d[\d,]{2,}) maximum context",
    re.IGNORECASE,
)
_INPUT_NUMBER = re.compile(
    r"(\d[\d,]*) in the messages|(\d[\d,]*) (?:input|prompt) tokens|(?:has|contains) (\d[\d,]*) tokens", re.IGNORECASE
)
_PROMPT_NUMBER = re.compile(
    r"(?:requested|resulted in|request|input|prompt|first|Given:|too long:|n_keep|count of|count)"
    r"\W{0,12}(?:length )?\(?(?:length )?\(?(\d[\d,]*)",
    re.IGNORECASE,
)
# Servers send 400 or 422, and 500 if they raise an internal error. Proxies send 413: by default nginx above 1 MB, and Express
# above 100 kB.
_STATUS_CODES = frozenset({400, 413, 422, 500})
_LONGEST_MESSAGE = 1_000  # characters; an echoed document is longer


def too_long_of(error: BaseException) -> ContextOverflow | None:
    """The overflow that this refusal reports, with its token counts; None for other errors. A refusal of a request for the
    number of its bytes (413) shows nothing about the context."""
    if isinstance(error, ErrorAsAnswer):
        return too_long_in(error.body)
    if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code not in _STATUS_CODES:
        return None
    text = text_of(error.response)
    try:
        found = too_long_in(read_json(text))
    except ValueError:
        found = too_long_in(text)
    is_too_large = error.response.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    return ContextOverflow(is_guess=True) if found is None and is_too_large else found


def too_long_in(body: object) -> ContextOverflow | None:
    """The overflow that the body of an error reports; None for other errors."""
    messages = [message for message in short_texts(body, _LONGEST_MESSAGE) if _TOO_LONG.search(message)]
    if not messages:
        return None
    numbers = dict(_numbers(body))
    return ContextOverflow(
        context_tokens=numbers.get("n_ctx") or _number(messages, _MAX_SEQ_LEN, _CONTEXT_NUMBER),
        prompt_tokens=numbers.get("n_prompt_tokens") or _number(messages, _INPUT_NUMBER, _PROMPT_NUMBER),
    )


def _number(messages: list[str], *patterns: re.Pattern[str]) -> int | None:
    """The number that the first matching pattern finds."""
    for pattern in patterns:
        for message in messages:
            if (found := pattern.search(message)) is not None:
                return plausible_tokens(int(next(group for group in found.groups() if group).replace(",", "")))
    return None


def _numbers(value: object, depth: int = 0) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict) and depth < 4:
        for key, item in value.items():
            if (found := plausible_tokens(item)) is not None:
                yield str(key), found
            yield from _numbers(item, depth + 1)


def plausible_tokens(value: object) -> int | None:
    """`value` if it can be a number of tokens, else None. No server has a context under 512, and 0 means unknown."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if LEAST_CONTEXT_TOKENS <= value <= 2**31 else None
