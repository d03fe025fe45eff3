"""Checks a slot beside the work of other workers: holds a permit for its completions and stores its findings.

The steps are in `dagster_offload.client.checkup`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from shlex import quote

from dagster_offload.client import checkup as checks
from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.check import HELD, Check
from dagster_offload.client.prompt_cache import DOCUMENTS_TO_ASK, ask_prompt_cache_size, calls_needed
from dagster_offload.engine.vanished import why_emptied
from dagster_offload.errors import LedgerAway, LedgerUnavailable, NoLedger, SettingsError
from dagster_offload.extraction.ocr.tesseract import find_reader
from dagster_offload.extraction.self_test import why_documents_wait
from dagster_offload.ledger.archive import outcomes
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import refuse_other_sql
from dagster_offload.ledger.core.opening import open_ledger_as_it_is
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import activity, status
from dagster_offload.ledger.sinks import notifications, sinks
from dagster_offload.ledger.sinks.notifications import ChannelRow
from dagster_offload.ledger.sinks.sinks import SinkRow
from dagster_offload.ledger.slots import dialects, holds, permits
from dagster_offload.ledger.slots import slots as ledger_slots
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.library.missing import MOUNT_IT, why_missing
from dagster_offload.postgres import is_running
from dagster_offload.postgres.external import ADVICE_IF_EXPOSED, why_exposed
from dagster_offload.postgres.room import room_of
from dagster_offload.settings import Settings
from dagster_offload.settings.sections.exposed import exposed
from dagster_offload.settings.sections.unset import incomplete
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.counts import counted

LONGEST_WAIT_FOR_A_PERMIT_SECONDS = 60.0


def checkup(settings: Settings, slot: SlotConfig, on_wait: Callable[[float], None] = lambda _: None) -> Iterator[Check]:
    """Yield the checks in order. Stops after a failed check that the later ones depend on.

    `on_wait` is called before the first completion, with the number of seconds it may take. Blocks between two steps.
    """
    yield _extractor(settings)
    yield _ocr(settings)
    with ExitStack() as stack:
        ledger, may_call = None, True
        # Without a ledger no other worker shares the slot, and no finding can be stored.
        if settings.postgres_url is not None or is_running(settings.home):
            try:
                opened = stack.enter_context(open_ledger_as_it_is(settings))
                opened.run(refuse_other_sql)  # these checks also write, and must not end in the middle
                ledger = opened
            except (LedgerUnavailable, SettingsError) as error:
                found = _unused(error)
                yield found
                may_call = not found.prevents_calls
        yield from _around_the_slot(settings, ledger)
        yield Check("slot", True, f"{slot.name}: asks for {slot.model} at {slot.shown_url}")
        if (key := checks.check_key(slot)) is not None:
            yield key
        # Before the checks, because an answer clears the reason of an open breaker.
        backlog = [] if ledger is None else list(_backlog(ledger, slot))
        yield from _server(settings, slot, ledger, on_wait, may_call=may_call)
        yield from backlog


def _unused(error: LedgerUnavailable | SettingsError) -> Check:
    """Why the ledger is not used. Others may call the slot, and only the ledger counts their calls, so none is made here."""
    if isinstance(error, NoLedger):
        return Check("ledger", False, f"not used: {error}", is_about_slot=False)
    return Check(
        "ledger",
        False,
        f"not used, so no call was made: {error}",
        "do what the check `ledger` says, then run this command again",
        is_setting=not isinstance(error, LedgerAway),
        is_about_slot=False,
        prevents_calls=True,
    )


def _around_the_slot(settings: Settings, ledger: Ledger | None) -> Iterator[Check]:
    """What the exit code does not depend on."""
    if ledger is not None:
        yield from _scan(ledger)  # before the library: if that is missing, it is why the scan failed
    yield from _library(settings, ledger)
    if ledger is not None:
        yield from _backups(ledger)
    if (room := room_of(settings)) is not None:
        yield Check("disk", room.shortage is None, room.found, room.shortage, is_about_slot=False)
    yield from _exposed(settings)
    yield from _incomplete(settings)
    if ledger is not None:
        yield from _recipients(settings, ledger)
    if ledger is not None and settings.postgres_url is not None:
        yield from _own_postgres(ledger)


def _server(
    settings: Settings,
    slot: SlotConfig,
    ledger: Ledger | None,
    on_wait: Callable[[float], None],
    *,
    may_call: bool,
) -> Iterator[Check]:
    """The checks of the slot's server: those that cost nothing, then completions if they may be made."""
    through_proxy = checks.check_proxy(slot)
    if through_proxy is not None:
        yield through_proxy
    for step in () if through_proxy is not None else (checks.check_name, checks.check_connection):
        found = step(slot)
        yield found
        if not found.ok:
            return
    yield asyncio.run(checks.check_health(slot))
    yield asyncio.run(checks.check_context(slot))
    if not may_call:
        return
    on_wait(checks.wait_seconds(slot))
    answered = asyncio.run(_answers(settings, slot, ledger))
    yield from answered
    if all(check.ok for check in answered):
        yield from _prompt_cache(settings, slot, ledger)


def _backlog(ledger: Ledger, slot: SlotConfig) -> Iterator[Check]:
    """What the ledger knows that the server's answers cannot show. The stages that are held come last."""
    row = ledger.run(ledger_slots.get, slot.name)
    problems = ledger.run(status.problem_counts)
    found, advice = [], None
    if row is not None and row.breaker is not BreakerState.CLOSED:
        found.append(f"{slot.name} was {row.breaker.in_words} before this check: {row.reason_text}")
    if problems:
        found.append(", ".join(f"{counted(count, 'document')} {state}" for state, count in problems.items()))
        advice = "dagster-offload status lists them with their reasons"
    if found:
        yield Check("backlog", not advice, "; ".join(found), advice, is_about_slot=False)
    for hold in ledger.run(holds.list_holds):
        if hold.slot == slot.name:
            yield Check(HELD, False, hold.in_words, _advice_about(hold), is_about_slot=False)


def _advice_about(hold: Hold) -> str:
    document = "DOCUMENT" if hold.document is None else quote(hold.document)
    return (
        f"document after document failed in the stage {hold.stage}: dagster-offload explain {document} shows why for one of "
        "them, and with --answer also what the model wrote, if it wrote anything. This check does not end the hold: "
        f"{hold.next_step}"
    )


def _extractor(settings: Settings) -> Check:
    """Whether this machine can read files. It does not affect the exit code, which is about the slot."""
    reason = why_documents_wait(settings.home)
    found = "reads files" if reason is None else "documents wait"
    return Check("extractor", reason is None, found, reason, is_about_slot=False)


def _ocr(settings: Settings) -> Check:
    """Whether this machine can read pictures of text. It does not affect the exit code, which is about the slot."""
    if settings.ocr == "off":
        return Check("ocr", True, "switched off: scans are not read (OFFLOAD_OCR)", is_about_slot=False)
    reader = find_reader(settings.ocr, settings.ocr_languages)
    found = f"Tesseract {reader.version} reads {reader.languages}" if reader.can_read else "scans are not read"
    return Check("ocr", not reader.advice, found, reader.advice or None, is_about_slot=False)


def _scan(ledger: Ledger) -> Iterator[Check]:
    """Whether the newest scan has failed, and so may have read no new file. The exit code is about the slot only."""
    if (failed := ledger.run(activity.failed_scan)) is not None:
        found = f"run {failed.run_id[:8]} failed at {failed.failed_at.astimezone():%H:%M}"
        yield Check("scan", False, found, f"the last scan failed: {failed.why}", is_about_slot=False)


def _library(settings: Settings, ledger: Ledger | None) -> Iterator[Check]:
    """Whether the library is there. It does not affect the exit code, which is about the slot."""
    if (library := settings.library) is not None:
        problem = why_missing(library) or (None if ledger is None else why_emptied(library, ledger))
        found = f"{library} {problem or 'can be listed'}"
        yield Check("library", problem is None, found, problem and MOUNT_IT, is_about_slot=False)


def _backups(ledger: Ledger) -> Iterator[Check]:
    """Whether the scheduled backups succeed. It does not affect the exit code, which is about the slot."""
    for outcome in ledger.run(outcomes.outcomes):
        reason = outcomes.failure(outcome)
        found = f"{outcome.folder}: {outcome.file or 'none yet'}"
        yield Check("backup", reason is None, found, reason, is_about_slot=False)


def _exposed(settings: Settings) -> Iterator[Check]:
    """A warning for each sink, channel and broker that exposes a secret. The exit code is about the slot only."""
    for each in exposed(settings):
        yield Check(each.noun, True, f"{each.name}: {each.found}", each.advice, is_about_slot=False)


def _incomplete(settings: Settings) -> Iterator[Check]:
    """The sinks and channels that can send nothing here. The exit code is about the slot only."""
    for each in incomplete(settings):
        yield Check(each.noun, False, f"{each.name}: it can send nothing here", str(each.variable), is_about_slot=False)


def _recipients(settings: Settings, ledger: Ledger) -> Iterator[Check]:
    """The other sinks and channels that wait for a changed setting. The exit code is about the slot only."""
    named = {(each.noun, each.name) for each in incomplete(settings)}
    rows: tuple[tuple[str, SinkRow | ChannelRow], ...] = (
        *(("sink", row) for row in ledger.run(sinks.list_sinks) if row.is_sent_to),
        *(("channel", row) for row in ledger.run(notifications.list_channels, list(settings.channels))),
    )
    for noun, row in rows:
        if row.is_misconfigured and row.waiting and (noun, row.name) not in named:
            found = f"{row.name}: {row.waiting} waiting for a changed setting"
            yield Check(noun, False, found, f"{row.name}: {row.reason}", is_about_slot=False)


def _own_postgres(ledger: Ledger) -> Iterator[Check]:
    """A warning if the user's own Postgres is reached unencrypted. The exit code is about the slot only."""
    with ledger.connect() as connection:
        found = why_exposed(connection)
    if found is not None:
        yield Check("Postgres", True, found, ADVICE_IF_EXPOSED, is_about_slot=False)


async def _answers(settings: Settings, slot: SlotConfig, ledger: Ledger | None) -> list[Check]:
    async with _permit(ledger, slot) as refused, AIClient(settings.slots) as client:
        if refused:
            return [
                Check(
                    "completion",
                    False,
                    refused,
                    "wait until the slot is idle, or allow more calls: dagster-offload slot set",
                )
            ]
        found = await checks.check_answers(client, slot)
    if all(check.ok for check in found) and ledger is not None:
        # These findings are newer than those of the workers.
        ledger.run(dialects.remember, slot, client.dialects_of(slot).findings)
        ledger.run(ledger_slots.check_again, slot.name, "doctor got an answer: the next check runs a trial")
    return found


def _prompt_cache(settings: Settings, slot: SlotConfig, ledger: Ledger | None) -> Iterator[Check]:
    """How many documents may be in flight so that the server reads each once: as it reports, and as measured."""
    wanted = DOCUMENTS_TO_ASK if slot.concurrency == "auto" else slot.concurrency
    documents = min(max(2, wanted), 2 * DOCUMENTS_TO_ASK)
    size = asyncio.run(ask_prompt_cache_size(slot))
    if size.prompt_cache_size is not None:
        yield Check(
            "prompt cache",
            True,
            f"{size.prompt_cache_size}, says the server: no more documents than that are in flight",
        )
        documents = min(documents, max(2, size.prompt_cache_size))
    calls = f"{documents} made-up documents, each sent twice: {calls_needed(documents)} calls of one token"
    yield Check("prompt cache", True, calls if size.prompt_cache_size else f"the server does not report it; {calls}")
    yield asyncio.run(_reuse(settings, slot, ledger, documents))


async def _reuse(settings: Settings, slot: SlotConfig, ledger: Ledger | None, documents: int) -> Check:
    async with _permit(ledger, slot) as refused, AIClient(settings.slots) as client:
        return Check("reuse", True, refused) if refused else await checks.check_reuse(client, slot, documents)


@asynccontextmanager
async def _permit(ledger: Ledger | None, slot: SlotConfig) -> AsyncIterator[str | None]:
    """Hold one of the slot's permits for the block. Yields None, or the reason if all permits are in use."""
    # A slot that is not in the ledger was never used yet, so no other worker uses it.
    if ledger is None or ledger.run(ledger_slots.get, slot.name) is None:
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
