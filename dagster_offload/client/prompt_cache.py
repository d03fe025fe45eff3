"""How many documents a slot's server keeps in its prompt cache: as it reports, or as two questions per document show.

With more documents in flight than it keeps, the server reads each again for its next stage. A reported size costs no
completion (llama.cpp's `/props` and `/slots`), but most servers report none. Measuring costs completions of one token, or of
the fewest that the server accepts.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from typing import Any

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.short_answer import short_answer
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.config import MAX_CONCURRENCY, SlotConfig
from dagster_offload.text.lenient_json import read_json

ASK_SECONDS = 2.0
DOCUMENTS_TO_ASK = 4  # if the number of documents in flight is not set

# Long enough to stand out from the chat template around it, short enough to be read in seconds.
DOCUMENT_WORDS = 700
# A kept prompt is kept almost completely; below this part, only the chat template or a cache block was shared.
KEPT = 0.5


@dataclass(frozen=True)
class ReportedCacheSize:
    """`prompt_cache_size` is in documents, None if the server reports none. `answered` is False without a usable reply
    (unreachable, timeout, HTTP 5xx)."""

    answered: bool
    prompt_cache_size: int | None = None


async def ask_prompt_cache_size(slot: SlotConfig) -> ReportedCacheSize:
    """The cache size that the server reports. Takes at most 2 s, sends no completion, and raises for no slot fault."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, ASK_SECONDS))
    try:
        async with asyncio.timeout(ASK_SECONDS), Http([slot], is_fresh=True) as http:
            for path in ("/props", "/slots"):
                response = await get(http, slot, path, ASK_SECONDS)
                if response.is_success and (size := _cache_size_in(response.content)) is not None:
                    return ReportedCacheSize(True, size)
                if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                    return ReportedCacheSize(False)
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, CutAnswer, SettingsError):
        return ReportedCacheSize(False)
    return ReportedCacheSize(True)


def _cache_size_in(body: bytes) -> int | None:
    try:
        report: Any = read_json(body)
    except ValueError:
        return None
    size = len(report) if isinstance(report, list) else report.get("total_slots") if isinstance(report, dict) else None
    return size if type(size) is int and 1 <= size <= MAX_CONCURRENCY else None


@dataclass(frozen=True)
class Reuse:
    """The measured reuse. After all `sent` documents had been read, `kept` were still in the cache; None if the server
    does not report cached tokens."""

    sent: int
    kept: int | None

    @property
    def message(self) -> str:
        """One line for people."""
        if self.kept is None:
            return "the server does not report what it reuses, so this is unknown"
        if self.kept == 0:
            return "nothing is reused: every document is read again for each stage"
        if self.kept < self.sent:
            dropped = self.sent - self.kept
            return f"reads each document once with up to {self.kept} in flight; it dropped {dropped} of {self.sent}"
        return f"reads each document once, even with {self.sent} in flight"


def calls_needed(documents: int) -> int:
    """The most completions that `find_reuse` sends, besides one that is refused if the server requires more than a token."""
    return 2 * documents


async def find_reuse(client: AIClient, slot: SlotConfig, documents: int) -> Reuse:
    """Ask two questions about each of `documents` generated documents, like two stages, one call at a time.

    The second round runs in reverse order: otherwise a cache that evicts the oldest entry would evict each document just
    before its second question. The caller holds a permit. Raises what a completion raises.
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
    """The part of the prompt that came from the cache (0 to 1); None if the server does not report it."""
    answer = await short_answer(client, slot, question, system=document)
    usage = answer.usage if isinstance(answer, Answer) else None
    if usage is None or usage.cached_tokens is None or not usage.prompt_tokens:
        return None
    return usage.cached_tokens / usage.prompt_tokens


_WORDS = (
    *("river", "garden", "window", "paper", "morning", "letter", "winter", "market", "bridge", "silver", "candle"),
    *("forest", "island", "kitchen", "painter", "harbour", "music", "doctor", "summer", "stone", "village", "engine"),
)


def _made_up(number: int) -> str:
    """Random words after a random number: no two documents share a beginning, and no cache has seen them before."""
    dice = random.Random()  # noqa: S311 - for variety, not for secrets
    return f"{dice.getrandbits(64):x} {number} " + " ".join(dice.choices(_WORDS, k=DOCUMENT_WORDS))
