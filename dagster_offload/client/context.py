"""The context size of a slot's model, in tokens: from the setting, from the server, or from its refusals."""

import asyncio
import logging
from dataclasses import dataclass, field, replace

import httpx

from dagster_offload.client.context_overflow import LEAST_CONTEXT_TOKENS, plausible_tokens
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import OffloadError
from dagster_offload.slot.chat import DEFAULT_MAX_TOKENS, LENGTH, STOP, room_to_think
from dagster_offload.slot.completion import Answer, ContextOverflow, RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Dialects, Feature
from dagster_offload.text.lenient_json import read_json
from dagster_offload.text.tokens import (
    DEFAULT_CONTEXT_TOKENS,
    estimated_tokens,
    least_tokens,
    least_tokens_at_most,
    text_tokens,
)

logger = logging.getLogger(__name__)

# A text that fits this context fits every usable server, so the server's context size is not requested.
SMALL_CONTEXT_TOKENS = 4_096

SMALLEST_CONTEXT_IN_USE = 2_048
# A server that counts less than this part of `least_tokens` has cut the prompt. Measured on 100 real documents with three
# vocabularies (o200k, cl100k, Qwen): they count 1.04 to about 5 times `least_tokens`. A server that cuts keeps half of its
# context.
CERTAINLY_CUT = 0.8

DOCUMENTS_FOR_A_GUESS = 2

ASKING_SECONDS = 5.0

# The keys in /v1/models: llama.cpp (in `meta`), vLLM and SGLang, LM Studio and routers.
_KEYS = ("n_ctx", "max_model_len", "context_length", "max_context_length", "context_window")


@dataclass
class ContextWindows:
    """The context sizes that this process knows. The setting `context_tokens` overrides what a server reports."""

    _reported: dict[str, int | None] = field(default_factory=dict)  # by slot; None = the server reports no size
    _answered: dict[str, int] = field(default_factory=dict)  # by slot: the tokens of the longest request and its answer
    _guessed: dict[str, set[object]] = field(default_factory=dict)  # by slot: the documents that led to a guess
    _warned: set[str] = field(default_factory=set)  # slots with a logged warning that their server cuts prompts

    async def text_tokens(self, slot: SlotConfig, text: str) -> int:
        """How many tokens of a document fit one request. Queries the server once, and only if it matters for `text`."""
        if slot.context_tokens is not None:
            return text_tokens(slot.context_tokens)
        if slot.name not in self._reported and estimated_tokens(text) > text_tokens(SMALL_CONTEXT_TOKENS):
            self._reported[slot.name] = await ask_context(slot)
        return text_tokens(usable_context(self._reported.get(slot.name)))

    def learn(self, slot: SlotConfig, overflow: ContextOverflow, document: object = None) -> None:
        """Keep the context size that a refusal about `document` reports, if it is smaller than the known one.

        It may be less than /v1/models reports: llama.cpp divides the context among its slots. A guess is kept only after a
        second document has led to one: a content filter may have emptied the answer, and every later document would be
        split for it. The context has at least the tokens of the longest request that was answered.
        """
        context = overflow.context_tokens
        if context is None:
            return
        if overflow.is_guess:
            guessed = self._guessed.setdefault(slot.name, set())
            guessed.add(document)
            if len(guessed) < DOCUMENTS_FOR_A_GUESS:
                return
            context = max(context, self._answered.get(slot.name, 0))
        known = self._reported.get(slot.name) or context
        self._reported[slot.name] = min(context, known)

    def tokens_left(self, slot: SlotConfig, prompt: str, max_tokens: int) -> int | None:
        """The tokens of the context that a prompt and its answer leave free; None if the context size is unknown."""
        known = [tokens for tokens in (slot.context_tokens, self._reported.get(slot.name)) if tokens is not None]
        return max(0, min(known) - estimated_tokens(prompt) - max_tokens) if known else None

    def overflow_in(self, slot: SlotConfig, answer: str, max_tokens: int | None, prompt: str) -> ContextOverflow | None:
        """The overflow that an HTTP 200 answer shows, or None: the prompt was cut, the answer is empty, or it ended
        because the context was full."""
        if not isinstance(answer, Answer):
            return None
        cut = self._cut_prompt(slot, answer, prompt)
        if cut is not None:
            return cut
        if _is_empty(answer) and (wanted := estimated_tokens(prompt) + (max_tokens or 0)) > SMALLEST_CONTEXT_IN_USE:
            return ContextOverflow(wanted // 2, is_guess=True)  # the context may be too small (LM Studio)
        filled = self._filled(slot, answer, max_tokens)
        if filled is None:
            counted = (answer.usage.prompt_tokens or 0) + (answer.usage.completion_tokens or 0)
            self._answered[slot.name] = max(counted, self._answered.get(slot.name, 0))
        return filled

    def _cut_prompt(self, slot: SlotConfig, answer: Answer, prompt: str) -> ContextOverflow | None:
        """The overflow if the server counted far fewer tokens than the prompt must have, so it did not read all of it
        (Ollama with a small num_ctx). It keeps half of its context or all of it; twice the count is tried first."""
        if answer.usage.prompt_tokens is None:
            return None
        counted = answer.usage.prompt_tokens + (answer.usage.cached_tokens or 0)
        # A count below any context size in use comes from a server that does not count tokens from its prompt cache.
        if counted < LEAST_CONTEXT_TOKENS or counted >= CERTAINLY_CUT * least_tokens_at_most(prompt):
            return None  # nearly every answer
        if counted >= CERTAINLY_CUT * (least := least_tokens(prompt)):
            return None
        known = self._reported.get(slot.name)
        context = 2 * counted if known is None or known > 2 * counted else counted
        if slot.name not in self._warned:
            self._warned.add(slot.name)
            logger.warning(
                "the %s slot's server read only %d tokens of a request with at least %d, and reported no error: enlarge its "
                "context (Ollama: OLLAMA_CONTEXT_LENGTH or num_ctx; LM Studio: Context Length; llama.cpp: --ctx-size), or "
                "set %s to its size. Its answer is not recorded, and documents are sent in smaller parts until then",
                slot.name, counted, least, slot.setting("context_tokens"),
            )  # fmt: skip
        return ContextOverflow(context)

    def _filled(self, slot: SlotConfig, answer: Answer, max_tokens: int | None) -> ContextOverflow | None:
        """The overflow if an answer ended because the context was full, before its own token limit."""
        if answer.finish_reason != "length" or max_tokens is None:
            return None
        before, written = answer.usage.prompt_tokens, answer.usage.completion_tokens
        if before is None or written is None or written >= 0.9 * max_tokens:
            return None
        whole = before + written
        known = self._reported.get(slot.name) or slot.context_tokens
        is_at_known_end = known is not None and 0.97 * known <= whole <= 1.03 * known
        # The size is unknown: contexts are multiples of 1,024, or at least of 256 if the answer is very short.
        step = 256 if written <= max(16, max_tokens // 20) else 1_024
        is_at_some_end = (whole + 1) % step <= 2 and whole > max_tokens
        return ContextOverflow(whole, before) if is_at_known_end or is_at_some_end else None


def _is_empty(answer: Answer) -> bool:
    """Whether the answer has no token and no reason for that, such as a content filter. False for a server that reports no
    counts."""
    if answer.is_refusal or answer.finish_reason not in {STOP, LENGTH, None}:
        return False
    is_empty = not answer.strip() and not answer.thinking_tokens and not answer.is_in_reasoning
    is_counted = answer.usage.prompt_tokens is not None or answer.usage.completion_tokens is not None
    return is_empty and is_counted and not answer.usage.completion_tokens


def usable_context(reported: int | None) -> int:
    """The context size to use, in tokens, if the setting is not set."""
    return DEFAULT_CONTEXT_TOKENS if reported is None else min(reported, DEFAULT_CONTEXT_TOKENS)


async def ask_context(slot: SlotConfig) -> int | None:
    """The context size that `/v1/models` reports for the slot's model, in tokens; None if it reports none. Takes at most
    5 s, sends no completion, and raises for no slot fault."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, ASKING_SECONDS))
    try:
        async with asyncio.timeout(ASKING_SECONDS), Http([slot], is_fresh=True) as http:
            response = await get(http, slot, "/v1/models", ASKING_SECONDS)
            return context_in(read_json(response.content), slot.model) if response.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError, TimeoutError, ValueError):
        return None


def context_in(models: object, model: str) -> int | None:
    """The context size in a body of `/v1/models`: from the entry named `model`, or from the only entry."""
    entries = models.get("data") if isinstance(models, dict) else None
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    matching = [entry for entry in entries if entry.get("id") == model] or (entries if len(entries) == 1 else [])
    for entry in matching:
        meta = entry.get("meta")
        for fields in (meta if isinstance(meta, dict) else {}, entry):
            for key in _KEYS:
                if (tokens := plausible_tokens(fields.get(key))) is not None:
                    return tokens
    return None


@dataclass
class RoomToThink:
    """The tokens added for thinking to the requests about one part of a document, one request after the other."""

    slot: SlotConfig
    dialects: Dialects
    windows: ContextWindows
    _wanted: int = 0
    _given: int = 0
    _refused: int | None = None  # the addition that was too long

    def added_to(self, options: RequestOptions, prompt: str) -> RequestOptions:
        """`options` of the next request, with tokens to think; `prompt` is the text of its messages."""
        self._wanted = self._given = 0
        if options.thinking is None or self.dialects.variant(Feature.NO_THINKING) is not None:
            return options
        bound = DEFAULT_MAX_TOKENS if options.max_tokens is None else options.max_tokens
        self._wanted = room_to_think(bound)
        left = self.windows.tokens_left(self.slot, prompt, bound)
        room = self._wanted if left is None else min(self._wanted, left)
        self._given = 0 if self._refused is not None and room >= self._refused else room
        return replace(options, most_to_think=self._given)

    def is_to_blame(self, too_long: ContextOverflow) -> bool:
        """Whether the refused request had tokens added for thinking. If so, it is sent again before the document is split
        or fails: with the tokens that the refusal shows to be free, else with none."""
        self.windows.learn(self.slot, too_long)
        if self._given == 0:
            return False
        self._refused = self._given
        return True

    def was_too_small(self, answer: str) -> bool:
        """Whether an answer ended at its limit and had fewer tokens for thinking than usual."""
        return isinstance(answer, Answer) and answer.finish_reason == "length" and self._given < self._wanted
