"""A slot's checkup beside the work of other workers: it holds a permit for its completions, and writes down what it found.

The steps themselves are in `dagster_offload.client.checkup`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from dagster_offload.client import checkup as checks
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.checkup import Check
from dagster_offload.client.prompt_cache import DOCUMENTS_TO_ASK, ask_prompt_cache_size, calls_needed
from dagster_offload.extraction.self_test import why_documents_wait
from dagster_offload.extraction.tesseract import find_reader
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import dialects, permits
from dagster_offload.ledger.slots import slots as ledger_slots
from dagster_offload.postgres import is_running
from dagster_offload.settings import Settings
from dagster_offload.slot.config import SlotConfig

LONGEST_WAIT_FOR_A_PERMIT_SECONDS = 60.0


def checkup(settings: Settings, slot: SlotConfig, on_wait: Callable[[float], None] = lambda _: None) -> Iterator[Check]:
    """The steps in order; a step without which the next make no sense ends them.

    `on_wait` is called before the first completion, with the seconds that one may take. Blocks between two steps.
    """
    yield _extractor(settings)
    yield _ocr(settings)
    yield Check("slot", True, f"{slot.name}: asks for {slot.model} at {slot.shown_url}")
    if (key := checks.check_key(slot)) is not None:
        yield key
    for step in (checks.check_name, checks.check_connection):
        found = step(slot)
        yield found
        if not found.ok:
            return
    yield asyncio.run(checks.check_health(slot))
    yield asyncio.run(checks.check_context(slot))
    on_wait(checks.wait_seconds(slot))
    answered = asyncio.run(_answers(settings, slot))
    yield from answered
    if all(check.ok for check in answered):
        yield from _prompt_cache(settings, slot)


def _extractor(settings: Settings) -> Check:
    """Whether files can be read on this machine. This is not about the slot, so it decides no exit code."""
    reason = why_documents_wait(settings.home)
    return Check("extractor", reason is None, "reads files" if reason is None else "documents wait", reason)


def _ocr(settings: Settings) -> Check:
    """Whether pictures of text can be read here. This is not about the slot, so it decides no exit code."""
    if settings.ocr == "off":
        return Check("ocr", True, "switched off: scans are not read (OFFLOAD_OCR)")
    reader = find_reader(settings.ocr, settings.ocr_languages)
    found = f"Tesseract {reader.version} reads {reader.languages}" if reader.can_read else "scans are not read"
    return Check("ocr", not reader.advice, found, reader.advice or None)


async def _answers(settings: Settings, slot: SlotConfig) -> list[Check]:
    async with _permit(settings, slot) as refused, AIClient(settings.slots) as client:
        if refused:
            return [Check("completion", False, refused, "wait until it is idle, or raise it: dagster-offload slot set")]
        found = await checks.check_answers(client, slot)
    if all(check.ok for check in found) and _is_ledger_up(settings):
        with open_ledger(settings) as ledger:
            # What was found just now replaces what workers found earlier.
            ledger.run(dialects.remember, slot, client.dialects_of(slot).findings)
            ledger.run(ledger_slots.try_again, slot.name, "doctor got an answer: the next check runs a trial")
    return found


def _prompt_cache(settings: Settings, slot: SlotConfig) -> Iterator[Check]:
    """How many documents may be in flight so that each is read once: as the server says, and by asking twice."""
    wanted = DOCUMENTS_TO_ASK if slot.concurrency == "auto" else slot.concurrency
    documents = min(max(2, wanted), 2 * DOCUMENTS_TO_ASK)
    word = asyncio.run(ask_prompt_cache_size(slot))
    if word.places is not None:
        yield Check("places", True, f"{word.places}, says the server: never more documents than that are in flight")
        documents = min(documents, max(2, word.places))
    calls = f"{documents} made-up documents, each asked about twice: {calls_needed(documents)} calls of one token"
    yield Check("places", True, calls if word.places else f"the server does not tell; {calls}")
    yield asyncio.run(_reuse(settings, slot, documents))


async def _reuse(settings: Settings, slot: SlotConfig, documents: int) -> Check:
    async with _permit(settings, slot) as refused, AIClient(settings.slots) as client:
        return Check("cache", True, refused) if refused else await checks.check_reuse(client, slot, documents)


def _is_ledger_up(settings: Settings) -> bool:
    """Without a running Postgres no other worker shares the slot, and nothing can be written down."""
    return settings.postgres_url is not None or is_running(settings.home)


@asynccontextmanager
async def _permit(settings: Settings, slot: SlotConfig) -> AsyncIterator[str | None]:
    """Hold one of the slot's permits for the block; yields why not where all are in use."""
    if not _is_ledger_up(settings):
        yield None
        return
    with open_ledger(settings) as ledger:
        if ledger.run(ledger_slots.get, slot.name) is None:  # never used yet, so no other worker uses it
            yield None
            return
        with Worker(ledger, kind="doctor") as worker:
            deadline = time.monotonic() + LONGEST_WAIT_FOR_A_PERMIT_SECONDS
            while not ledger.run(permits.acquire, slot.name, worker.id, is_person=True):
                if time.monotonic() > deadline:
                    yield f"all permits of {slot.name} are in use; no call was made"
                    return
                await asyncio.sleep(0.5)
            yield None
