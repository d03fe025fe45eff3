"""How many tokens a slot's model reads at once: what its server tells when asked, and what its refusals tell.

No word of a response leaves this file but numbers of tokens: bodies may echo documents.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import httpx

from dagster_offload.completion import Answer
from dagster_offload.errors import OffloadError
from dagster_offload.foreign_json import read_json
from dagster_offload.slots import SlotConfig
from dagster_offload.stages.long_documents import TooLong
from dagster_offload.stages.prompt import estimated_tokens, text_tokens
from dagster_offload.transport import auth_headers, call_timeout, endpoint, exchange, open_http

# Where neither the owner nor the server says; and the most that is used without the owner's word: servers tell what a
# model could read (262,144 for many), and a laptop at 300 tokens a second would read that longer than any read timeout.
DEFAULT_CONTEXT_TOKENS = 32_768
LEAST_CONTEXT_TOKENS = 512
# A text that fits this fits every server worth asking: no need to ask it.
SMALL_CONTEXT_TOKENS = 4_096

ASKING_SECONDS = 5.0

# Where servers say it in /v1/models: llama.cpp (in `meta`), vLLM and SGLang, LM Studio and routers.
_KEYS = ("n_ctx", "max_model_len", "context_length", "max_context_length", "context_window")


@dataclass
class ContextWindows:
    """What is known in this process. `setting` is the owner's word (OFFLOAD_DEEP_CONTEXT_TOKENS), which goes first."""

    setting: int | None = None
    _told: dict[str, int | None] = field(default_factory=dict)  # by slot; None = asked, and it does not say

    async def text_tokens(self, slot: SlotConfig, text: str) -> int:
        """How many tokens of a document go into one request. Asks the server, once, where that matters for `text`."""
        if self.setting is not None:
            return text_tokens(self.setting)
        if slot.name not in self._told and estimated_tokens(text) > text_tokens(SMALL_CONTEXT_TOKENS):
            self._told[slot.name] = await ask_context(slot)
        return text_tokens(usable_context(self._told.get(slot.name)))

    def learn(self, slot: SlotConfig, word: TooLong) -> None:
        """A refusal told the context. It may be less than /v1/models said: llama.cpp shares it out over its slots."""
        if word.context_tokens is not None:
            self._told[slot.name] = min(word.context_tokens, self._told.get(slot.name) or word.context_tokens)

    def filled_by(self, slot: SlotConfig, answer: str, max_tokens: int | None) -> TooLong | None:
        """Whether an answer ended for want of context, not by its own bound: the prompt left it hardly any room."""
        if not isinstance(answer, Answer) or answer.finish_reason != "length" or max_tokens is None:
            return None
        before, written = answer.usage.prompt_tokens, answer.usage.completion_tokens
        if before is None or written is None or written >= 0.9 * max_tokens:
            return None
        whole = before + written
        known = self._told.get(slot.name) or self.setting
        is_at_known_end = known is not None and 0.97 * known <= whole <= 1.03 * known
        # Nobody said: contexts are multiples of 256, and an answer of a few words is not what was asked for.
        is_at_some_end = written <= max(16, max_tokens // 20) and (whole + 2) % 256 <= 4 and whole > max_tokens
        return TooLong(whole, before) if is_at_known_end or is_at_some_end else None


def usable_context(told: int | None) -> int:
    """The context to plan with where the owner named none."""
    return DEFAULT_CONTEXT_TOKENS if told is None else min(told, DEFAULT_CONTEXT_TOKENS)


async def ask_context(slot: SlotConfig) -> int | None:
    """The context `/v1/models` tells for the slot's model, in tokens; None where it does not. Free, at most 5 s, and
    never raises for a fault of the slot."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, ASKING_SECONDS))
    try:
        async with asyncio.timeout(ASKING_SECONDS), open_http([slot], is_fresh=True) as http:
            response = await exchange(
                http,
                "GET",
                endpoint(slot, "/v1/models"),
                headers=auth_headers(slot),
                timeout=call_timeout(slot, ASKING_SECONDS),
            )
            return context_in(read_json(response.content), slot.model) if response.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError, TimeoutError, ValueError):
        return None


def context_in(models: object, model: str) -> int | None:
    """The context in the body of `/v1/models`: that of the entry called `model`, or of the only one there is."""
    entries = models.get("data") if isinstance(models, dict) else None
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    ours = [entry for entry in entries if entry.get("id") == model] or (entries if len(entries) == 1 else [])
    for entry in ours:
        meta = entry.get("meta")
        for told in (meta if isinstance(meta, dict) else {}, entry):
            for key in _KEYS:
                if (found := _tokens(told.get(key))) is not None:
                    return found
    return None


# How servers say it: llama.cpp, OpenAI, vLLM, SGLang, LM Studio, Ollama, LiteLLM, TGI, omlx, Anthropic behind a router.
_TOO_LONG = re.compile(
    r"exceed_context_size|context_length_exceeded|ContextWindowExceeded"
    r"|(?:maximum|model'?s?|available|loaded with|max)\s+(?:context|model)\s+(?:length|size|window)"
    r"|exceed\w*\b.{0,40}\bcontext|\bcontext (?:length|size|window)\b.{0,40}(?:exceed|overflow)"
    r"|longer than the (?:maximum |model'?s? )?(?:context|model)"
    r"|(?:prompt|input|request) (?:is )?too long|too many (?:input |prompt )?tokens"
    r"|tokens to keep from the initial prompt|`?inputs`? tokens \+ `?max_new_tokens`? must be",
    re.IGNORECASE,
)
_CONTEXT_NUMBER = re.compile(
    r"(?:(?:context|model) (?:length|size|window)|must be <=|>)\D{0,24}?(\d[\d,]{2,})", re.IGNORECASE
)
_INPUT_NUMBER = re.compile(r"(\d[\d,]*) in the messages|(\d[\d,]*) (?:input|prompt) tokens", re.IGNORECASE)
_PROMPT_NUMBER = re.compile(
    r"(?:requested|resulted in|request|input|prompt|first|Given:|too long:)\W{0,12}(?:length )?\(?(?:length )?(\d[\d,]*)",
    re.IGNORECASE,
)
# 400 and 422 are a server's words for it, 413 a proxy's, 500 that of servers that raise it from within.
_STATUS_CODES = frozenset({400, 413, 422, 500})
_LONGEST_NOTICE = 1_000  # characters; an echoed document is longer


def too_long_of(error: BaseException) -> TooLong | None:
    """Whether this refusal unmistakably says that the request does not fit the model's context, and what it tells."""
    if not isinstance(error, httpx.HTTPStatusError) or error.response.status_code not in _STATUS_CODES:
        return None
    text = error.response.text
    try:
        body = read_json(text)
    except ValueError:
        body = text
    notices = [notice for notice in _short_texts(body) if _TOO_LONG.search(notice)]
    if not notices:
        return None
    numbers = dict(_numbers(body))
    return TooLong(
        context_tokens=numbers.get("n_ctx") or _number(notices, _CONTEXT_NUMBER),
        prompt_tokens=numbers.get("n_prompt_tokens") or _number(notices, _INPUT_NUMBER, _PROMPT_NUMBER),
    )


def _number(notices: list[str], *patterns: re.Pattern[str]) -> int | None:
    """The number one of these patterns finds, the first pattern first."""
    for pattern in patterns:
        for notice in notices:
            if (found := pattern.search(notice)) is not None:
                return _tokens(int(next(group for group in found.groups() if group).replace(",", "")))
    return None


def _tokens(value: object) -> int | None:
    """A believable number of tokens: nobody serves a context under 512, and a 0 means that it is not known."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if LEAST_CONTEXT_TOKENS <= value <= 2**31 else None


def _short_texts(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str) and len(value) <= _LONGEST_NOTICE:
        yield value
    elif isinstance(value, (dict, list)) and depth < 4:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _short_texts(item, depth + 1)


def _numbers(value: object, depth: int = 0) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict) and depth < 4:
        for key, item in value.items():
            if (found := _tokens(item)) is not None:
                yield str(key), found
            yield from _numbers(item, depth + 1)
