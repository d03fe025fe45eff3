"""How many tokens a slot's model reads at once: the owner's word, what its server tells when asked, what refusals told."""

import asyncio
import logging
from dataclasses import dataclass, field, replace

import httpx

from dagster_offload.client.context_overflow import LEAST_CONTEXT_TOKENS, believable_tokens
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import OffloadError
from dagster_offload.slot.chat import DEFAULT_MAX_TOKENS, room_to_think
from dagster_offload.slot.completion import Answer, ContextOverflow, RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import Dialects, Feature
from dagster_offload.text.lenient_json import read_json
from dagster_offload.text.tokens import estimated_tokens, least_tokens, text_tokens

logger = logging.getLogger(__name__)

# Where neither the owner nor the server says; and the most that is used without the owner's word: servers tell what a
# model could read (262,144 for many), and a laptop at 300 tokens a second would read that longer than any read timeout.
DEFAULT_CONTEXT_TOKENS = 32_768
# A text that fits this fits every server worth asking: no need to ask it.
SMALL_CONTEXT_TOKENS = 4_096

SMALLEST_CONTEXT_IN_USE = 2_048
# Of the fewest tokens that a prompt can have. Measured over 100 real documents with four vocabularies: those counted 1.04 to
# 4.7 times as many, and a server that cuts keeps half of its context.
CERTAINLY_CUT = 0.8

ASKING_SECONDS = 5.0

# Where servers say it in /v1/models: llama.cpp (in `meta`), vLLM and SGLang, LM Studio and routers.
_KEYS = ("n_ctx", "max_model_len", "context_length", "max_context_length", "context_window")


@dataclass
class ContextWindows:
    """What is known in this process. The owner's word, in the slot's configuration, goes before any server's."""

    _told: dict[str, int | None] = field(default_factory=dict)  # by slot; None = asked, and it does not say
    _warned: set[str] = field(default_factory=set)  # slots whose server was seen to cut prompts

    async def text_tokens(self, slot: SlotConfig, text: str) -> int:
        """How many tokens of a document go into one request. Asks the server, once, where that matters for `text`."""
        if slot.context_tokens is not None:
            return text_tokens(slot.context_tokens)
        if slot.name not in self._told and estimated_tokens(text) > text_tokens(SMALL_CONTEXT_TOKENS):
            self._told[slot.name] = await ask_context(slot)
        return text_tokens(usable_context(self._told.get(slot.name)))

    def learn(self, slot: SlotConfig, word: ContextOverflow) -> None:
        """A refusal told the context. It may be less than /v1/models said: llama.cpp shares it out over its slots."""
        if word.context_tokens is not None:
            self._told[slot.name] = min(word.context_tokens, self._told.get(slot.name) or word.context_tokens)

    def tokens_left(self, slot: SlotConfig, prompt: str, max_tokens: int) -> int | None:
        """What the context holds besides a prompt and its answer; None where the context is not known."""
        known = [tokens for tokens in (slot.context_tokens, self._told.get(slot.name)) if tokens is not None]
        return max(0, min(known) - estimated_tokens(prompt) - max_tokens) if known else None

    def overflow_in(self, slot: SlotConfig, answer: str, max_tokens: int | None, prompt: str) -> ContextOverflow | None:
        """Whether an answer shows that its request was more than the context holds, though the server said HTTP 200:
        the prompt was cut, nothing was written, or the answer ended for want of room."""
        if not isinstance(answer, Answer):
            return None
        cut = self._cut_prompt(slot, answer, prompt)
        if cut is not None:
            return cut
        wanted = estimated_tokens(prompt) + (max_tokens or 0)
        if _came_to_nothing(answer, wanted):
            return ContextOverflow(wanted // 2)
        return self._filled(slot, answer, max_tokens)

    def _cut_prompt(self, slot: SlotConfig, answer: Answer, prompt: str) -> ContextOverflow | None:
        """A server that counted far fewer tokens than the prompt must have did not read it all (Ollama with a small
        num_ctx). It keeps half of its context, or all of it: twice what it read is tried first."""
        if answer.usage.prompt_tokens is None:
            return None
        counted = answer.usage.prompt_tokens + (answer.usage.cached_tokens or 0)
        # Under any context in use, it is what a server counts that leaves out what its prompt cache held.
        if counted < LEAST_CONTEXT_TOKENS or counted >= CERTAINLY_CUT * least_tokens(prompt):
            return None
        known = self._told.get(slot.name)
        context = 2 * counted if known is None or known > 2 * counted else counted
        if slot.name not in self._warned:
            self._warned.add(slot.name)
            logger.warning(
                "the %s slot's server read %d tokens of a request that has at least %d, and said nothing: give it a larger "
                "context (Ollama: OLLAMA_CONTEXT_LENGTH or num_ctx; LM Studio: Context Length; llama.cpp: --ctx-size), or "
                "set %s to what it has. Its answer is not recorded, and documents are sent in smaller parts until then",
                slot.name, counted, least_tokens(prompt), slot.setting("context_tokens"),
            )  # fmt: skip
        return ContextOverflow(context)

    def _filled(self, slot: SlotConfig, answer: Answer, max_tokens: int | None) -> ContextOverflow | None:
        """Whether an answer ended for want of context, not by its own bound: the prompt left it hardly any room."""
        if answer.finish_reason != "length" or max_tokens is None:
            return None
        before, written = answer.usage.prompt_tokens, answer.usage.completion_tokens
        if before is None or written is None or written >= 0.9 * max_tokens:
            return None
        whole = before + written
        known = self._told.get(slot.name) or slot.context_tokens
        is_at_known_end = known is not None and 0.97 * known <= whole <= 1.03 * known
        # Nobody said: contexts are multiples of 1,024, or at least of 256 where hardly a word was written.
        step = 256 if written <= max(16, max_tokens // 20) else 1_024
        is_at_some_end = (whole + 1) % step <= 2 and whole > max_tokens
        return ContextOverflow(whole, before) if is_at_known_end or is_at_some_end else None


def _came_to_nothing(answer: Answer, wanted_tokens: int) -> bool:
    """Whether not one token was written for a request of `wanted_tokens` that a small context may not hold (LM Studio).
    A server that counts nothing at all tells nothing."""
    is_empty = not answer.strip() and not answer.thinking_tokens and not answer.is_in_reasoning
    is_counted = answer.usage.prompt_tokens is not None or answer.usage.completion_tokens is not None
    return is_empty and is_counted and not answer.usage.completion_tokens and wanted_tokens > SMALLEST_CONTEXT_IN_USE


def usable_context(told: int | None) -> int:
    """The context to plan with where the owner named none."""
    return DEFAULT_CONTEXT_TOKENS if told is None else min(told, DEFAULT_CONTEXT_TOKENS)


async def ask_context(slot: SlotConfig) -> int | None:
    """The context `/v1/models` tells for the slot's model, in tokens; None where it does not. Free, at most 5 s, and
    never raises for a fault of the slot."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, ASKING_SECONDS))
    try:
        async with asyncio.timeout(ASKING_SECONDS), Http([slot], is_fresh=True) as http:
            response = await get(http, slot, "/v1/models", ASKING_SECONDS)
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
                if (found := believable_tokens(told.get(key))) is not None:
                    return found
    return None


@dataclass
class RoomToThink:
    """The room that the requests about one passage have, one after the other."""

    slot: SlotConfig
    dialects: Dialects
    windows: ContextWindows
    _wanted: int = 0
    _given: int = 0
    _refused: int | None = None  # so much was too long

    def added_to(self, options: RequestOptions, prompt: str) -> RequestOptions:
        """`options` for the next request, whose messages are `prompt`."""
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
        """Whether a request that was too long had room added. It is sent again before anything is split or blamed: with
        as much as the refusal's number leaves, else without."""
        self.windows.learn(self.slot, too_long)
        if self._given == 0:
            return False
        self._refused = self._given
        return True

    def was_too_small(self, answer: str) -> bool:
        """Whether an answer ended at its bound, and the context had less left for thinking than it usually gets."""
        return isinstance(answer, Answer) and answer.finish_reason == "length" and self._given < self._wanted
