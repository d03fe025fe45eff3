"""How many documents a slot's server keeps in its prompt cache: by its own word, or by asking the same things twice.

More documents in flight than it keeps, and each is read again for its next stage. A server's word is free
(llama.cpp's `/props` and `/slots`); most servers say nothing. What asking twice shows costs completions of one token.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.slot.completion import Answer, RequestOptions
from dagster_offload.slot.config import MAX_CONCURRENCY, SlotConfig
from dagster_offload.text.lenient_json import read_json

ASK_SECONDS = 2.0
DOCUMENTS_TO_ASK = 4  # where nobody said how many are to be in flight

# Long enough to stand out from the chat template around it, short enough to be read in seconds.
DOCUMENT_WORDS = 700
# A prompt that was kept is kept nearly whole; a shared template or a block size makes the rest.
KEPT = 0.5


@dataclass(frozen=True)
class ReportedCacheSize:
    """`places` is None where the server tells nothing; `answered` False where nothing can be said about that."""

    answered: bool
    places: int | None = None


async def ask_prompt_cache_size(slot: SlotConfig) -> ReportedCacheSize:
    """The server's own word for its places. Takes 2 s at most, makes no completion, and never raises for the slot."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, ASK_SECONDS))
    try:
        async with asyncio.timeout(ASK_SECONDS), Http([slot], is_fresh=True) as http:
            for path in ("/props", "/slots"):
                response = await get(http, slot, path, ASK_SECONDS)
                if response.is_success and (places := _places_in(response.content)) is not None:
                    return ReportedCacheSize(True, places)
                if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                    return ReportedCacheSize(False)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, CutAnswer, SettingsError):
        return ReportedCacheSize(False)
    return ReportedCacheSize(True)


def _places_in(body: bytes) -> int | None:
    try:
        told: Any = read_json(body)
    except ValueError:
        return None
    places = len(told) if isinstance(told, list) else told.get("total_slots") if isinstance(told, dict) else None
    return places if type(places) is int and 1 <= places <= MAX_CONCURRENCY else None


@dataclass(frozen=True)
class Reuse:
    """What asking twice showed. `kept` documents of `asked` were still in the cache after all of them had been read;
    None where the server does not say how much it took out of its cache."""

    asked: int
    kept: int | None

    @property
    def words(self) -> str:
        if self.kept is None:
            return "the server does not say what it reuses: nothing is known about it"
        if self.kept == 0:
            return "nothing is reused: every document is read once for each stage"
        if self.kept < self.asked:
            return f"reads a document once while {self.kept} are in flight; of {self.asked} it forgot {self.asked - self.kept}"
        return f"reads a document once, also with {self.asked} in flight"


def calls_needed(documents: int) -> int:
    """How many completions `find_reuse` makes at most."""
    return 2 * documents


async def find_reuse(client: AIClient, slot: SlotConfig, documents: int) -> Reuse:
    """Ask one thing about each of `documents` made-up documents, then another, as two stages do, one call at a time.

    The second time the last comes first: a cache that forgets the oldest would else forget each just before it is asked
    for. The caller holds a permit. Raises what a completion raises.
    """
    texts = [_made_up(number) for number in range(documents)]
    for text in texts:
        await _cached_part(client, slot, text, "Name the first word.")
    kept = 0
    for text in reversed(texts):
        part = await _cached_part(client, slot, text, "Name the last word.")
        if part is None:
            return Reuse(documents, None)
        kept += part >= KEPT
    return Reuse(documents, kept)


async def _cached_part(client: AIClient, slot: SlotConfig, document: str, question: str) -> float | None:
    """The part of the prompt the server had read before; None where it does not say."""
    options = RequestOptions(max_tokens=1, temperature=0.0, thinking=False)
    answer = await client._request(slot, question, system=document, options=options)
    usage = answer.usage if isinstance(answer, Answer) else None
    if usage is None or usage.cached_tokens is None or not usage.prompt_tokens:
        return None
    return usage.cached_tokens / usage.prompt_tokens


_WORDS = (
    *("river", "garden", "window", "paper", "morning", "letter", "winter", "market", "bridge", "silver", "candle"),
    *("forest", "island", "kitchen", "painter", "harbour", "music", "doctor", "summer", "stone", "village", "engine"),
)


def _made_up(number: int) -> str:
    """Words in an order of their own, new at every look: unlike one another from the first on, and never seen before."""
    dice = random.Random()  # noqa: S311 - for variety, not for secrets
    return f"{dice.getrandbits(64):x} {number} " + " ".join(dice.choices(_WORDS, k=DOCUMENT_WORDS))
