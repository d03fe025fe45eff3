"""`dagster-offload doctor`: try a slot step by step, as a person would with curl, and name the setting to change."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from dagster_offload.cli.exits import ExitCode
from dagster_offload.cli.options import deep_options, home_option, json_option

if TYPE_CHECKING:
    from dagster_offload.client.ai_client import AIClient
    from dagster_offload.settings import Settings
    from dagster_offload.slot.completion import Answer
    from dagster_offload.slot.config import SlotConfig
    from dagster_offload.slot.dialects import Dialects, Wish

QUESTION = "Count from one to forty in English words, separated by spaces."
# OpenAI and DeepSeek want the word in the prompt before they promise a JSON object; asked for it is not.
JSON_QUESTION = "This tests JSON output. Name a colour of the rainbow, in one word."
PERMIT_PATIENCE_SECONDS = 60.0
ANSWER_PATIENCE_SECONDS = 120.0  # for one short answer, which may find the model still loading


@dataclass(frozen=True)
class Check:
    """One step. `advice` is the line to change, where this step knows it; `is_setting` = waiting will not mend it."""

    name: str
    ok: bool
    found: str
    advice: str | None = None
    is_setting: bool = False


@click.command("doctor")
@home_option
@deep_options
@json_option
def command(*, as_json: bool) -> None:
    """Try the deep slot step by step: name, connection, health, a few short completions.

    Says which model answered and how far that proves anything, how fast it is, whether it heeds wishes for JSON and
    against thinking, and ends with the line to change.
    Exit code 0: work can flow. 75: the slot is away. 78: a setting is wrong. 2: no slot is configured.

    \b
    dagster-offload doctor
    dagster-offload doctor --deep-url http://macbook.local:8890 --deep-model qwen-macbook
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.errors import SettingsError
    from dagster_offload.settings import load_settings

    settings = load_settings()
    slot = settings.slots.for_prompt()
    if slot is None:
        raise SettingsError(
            "no slot is configured: set OFFLOAD_DEEP_URL=http://HOST:8890 and OFFLOAD_DEEP_MODEL to the alias your router knows"
        )
    checks = []
    for check in _examine(settings, slot, is_quiet=as_json):
        checks.append(check)
        if not as_json:
            mark = click.style("ok  ", fg="green") if check.ok else click.style("no  ", fg="red")
            click.echo(f"{mark}{check.name:<12} {check.found}")
    advice, last = _advice(checks), checks[-1]
    if as_json:
        print_json({"ok": last.ok, "advice": advice, "checks": [asdict(check) for check in checks]})
    else:
        click.echo(f"\n{advice or 'Nothing to change.'}")
    if not last.ok:
        is_setting = any(check.is_setting for check in checks if not check.ok)
        raise click.exceptions.Exit(ExitCode.MISCONFIGURED if is_setting else ExitCode.SLOT_AWAY)


def _advice(checks: list[Check]) -> str | None:
    """The line to change: a setting that is surely wrong, else what the last step that failed says, else a proposal."""
    failed = [check for check in checks if not check.ok]
    best = [check for check in failed if check.is_setting] or failed[-1:] or [check for check in checks if check.advice]
    return best[0].advice if best else None


def _examine(settings: "Settings", slot: "SlotConfig", *, is_quiet: bool) -> Iterator[Check]:
    """The steps in order; a step without which the next make no sense ends them."""
    yield _extractor(settings)
    yield _ocr(settings)
    yield Check("slot", True, f"{slot.name}: asks for {slot.model} at {slot.shown_url}")
    parts = urlsplit(slot.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = _resolve(slot, host, port)
    yield address
    if not address.ok:
        return
    connection = _connect(slot, host, port)
    yield connection
    if not connection.ok:
        return
    yield asyncio.run(_health(slot))
    yield asyncio.run(_context(slot))
    if not is_quiet:
        click.echo(f"asks for a few short answers, and waits up to {_patience(slot):g} s for each ...", err=True)
    answered = asyncio.run(_completion(settings, slot))
    yield from answered
    if all(check.ok for check in answered):
        yield from _prompt_cache(settings, slot)


def _extractor(settings: "Settings") -> Check:
    """Whether files can be read here. Not the slot's matter, so it decides no exit code."""
    from dagster_offload.extraction.self_test import why_documents_wait

    reason = why_documents_wait(settings.home)
    return Check("extractor", reason is None, "reads PDF files" if reason is None else "documents wait", reason)


def _ocr(settings: "Settings") -> Check:
    """Whether pictures of text can be read here. Not the slot's matter, so it decides no exit code."""
    from dagster_offload.extraction.tesseract import find_reader

    if settings.ocr == "off":
        return Check("ocr", True, "switched off: scans are not read (OFFLOAD_OCR)")
    reader = find_reader(settings.ocr, settings.ocr_languages)
    found = f"Tesseract {reader.version} reads {reader.languages}" if reader.can_read else "scans are not read"
    return Check("ocr", not reader.advice, found, reader.advice or None)


def _resolve(slot: "SlotConfig", host: str, port: int) -> Check:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Check(
            "resolves",
            False,
            f"{host}: {error.strerror or error}",
            f"{slot.setting('url')}: no machine is known as {host}. A .local name is known only while the machine is "
            "awake; its IP address is always valid.",
        )
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Check("resolves", True, f"{host} is {', '.join(addresses)}")


def _connect(slot: "SlotConfig", host: str, port: int) -> Check:
    started = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=slot.connect_timeout).close()
    except ConnectionRefusedError:
        advice = f"start the router on {host}, or correct the port in {slot.setting('url')}"
        return Check("connects", False, f"port {port}: connection refused", advice)
    except OSError as error:
        words = f"no answer within {slot.connect_timeout:g} s" if isinstance(error, TimeoutError) else error.strerror
        advice = f"wake {host}, or correct the host in {slot.setting('url')} (a firewall looks the same)"
        return Check("connects", False, f"port {port}: {words}", advice)
    return Check("connects", True, f"port {port} in {(time.monotonic() - started) * 1000:.0f} ms")


async def _health(slot: "SlotConfig") -> Check:
    from dagster_offload.client.probe import probe

    seen = await probe(slot)
    advice = None
    if not seen.healthy:
        advice = f"the router says {seen.reason}: wait for it, or correct {slot.setting('health_path')}"
    return Check("health", seen.healthy, seen.reason, advice)


async def _context(slot: "SlotConfig") -> Check:
    """How much of a document one request takes: by the owner's word, or by the server's."""
    from dagster_offload.client.context import ask_context, usable_context

    told, setting = await ask_context(slot), slot.setting("context_tokens")
    says = "the server does not tell" if told is None else f"{told:,} tokens, says the server"
    if slot.context_tokens is None:
        used = usable_context(told)
        more = f"; {used:,} are used where {setting} is not set" if used != told else ""
        return Check("context", True, says + more)
    advice = None
    if told is not None and slot.context_tokens > told:
        advice = f"lower {setting} to {told}: until then each long document is refused once and split again"
    return Check("context", True, f"{slot.context_tokens:,} tokens by {setting}; {says}", advice)


def _patience(slot: "SlotConfig") -> float:
    """Seconds for one short answer: the owner's word goes first where it is shorter."""
    return min(ANSWER_PATIENCE_SECONDS, slot.read_timeout)


async def _completion(settings: "Settings", slot: "SlotConfig") -> list[Check]:
    import httpx

    from dagster_offload.client.ai_client import AIClient
    from dagster_offload.client.faults import fault_reason, is_misconfigured, setting_to_check
    from dagster_offload.errors import OffloadError

    async with _permit(settings, slot) as refused, AIClient(settings.slots) as client:
        if refused:
            return [Check("completion", False, refused, "wait until it is idle, or raise it: dagster-offload slot set")]
        try:
            answer, seconds = await _answer_without_thinking(client, slot)
            checks = [_model(slot, answer), _speed(answer, seconds), _thinking(client, slot, answer)]
            checks.append(await _json(client, slot))
        except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
            is_setting = is_misconfigured(error)
            setting = setting_to_check(slot, error)
            advice = f"correct {setting}" if is_setting else f"the slot is away; if that is not so, look at {setting}"
            return [Check("completion", False, fault_reason(error), advice, is_setting)]
    _remember(settings, slot, client)
    return checks


async def _answer_without_thinking(client: "AIClient", slot: "SlotConfig") -> tuple["Answer", float]:
    """The answer to a short question and its seconds, asked in each dialect of `do not think` until one is obeyed."""
    from dagster_offload.slot.completion import Answer, RequestOptions

    options = RequestOptions(max_tokens=120, temperature=0.0, thinking=False, read_timeout_seconds=_patience(slot))
    while True:
        started = time.monotonic()
        said = await client._request(slot, QUESTION, options=options)
        answer = said if isinstance(said, Answer) else Answer(said)
        if not answer.is_worth_asking_otherwise:
            return answer, time.monotonic() - started


def _thinking(client: "AIClient", slot: "SlotConfig", answer: "Answer") -> Check:
    """Whether the server obeyed the wish not to think, and in which dialect."""
    from dagster_offload.slot.chat import MOST_TOKENS_TO_THINK
    from dagster_offload.slot.dialects import Wish

    known = client.dialects_of(slot)
    way = known.way(Wish.NO_THINKING)
    others = _passed_over(known, Wish.NO_THINKING)
    if answer.thinking_tokens:
        return Check(
            "thinking",
            True,
            f"the server thinks all the same: {answer.thinking_tokens} tokens before a short answer. Answers get up to "
            f"{MOST_TOKENS_TO_THINK} tokens more for it{others}",
            f"turn thinking off at the server, or say how it wants to be told: {slot.setting('extra_body')}='{{...}}'",
        )
    if way is None:
        return Check("thinking", True, f"the server knows no word against it, and does not think{others}")
    return Check("thinking", True, f"off: obeyed as {way}{others}")


async def _json(client: "AIClient", slot: "SlotConfig") -> Check:
    """Which dialect of `answer with JSON of this shape` is honoured: the question itself asks for no such thing."""
    from dagster_offload.slot.completion import RequestOptions
    from dagster_offload.slot.dialects import Finding, Wish

    known = client.dialects_of(slot)
    schema = {
        "type": "object",
        "required": ["colour_of_the_rainbow"],
        "additionalProperties": False,
        "properties": {"colour_of_the_rainbow": {"enum": ["red", "green", "blue"]}},
    }
    options = RequestOptions(
        max_tokens=60,
        temperature=0.0,
        thinking=False,
        response_schema=schema,
        read_timeout_seconds=_patience(slot),
    )
    way = None
    while (next_way := known.way(Wish.JSON)) is not None and next_way != way:
        way = next_way
        await client._request(slot, JSON_QUESTION, options=options)
    others = _passed_over(known, Wish.JSON)
    if way is None or next_way is None:
        return Check("json", True, f"the prompt alone asks for it, every answer is checked{others}")
    if known.finding(Wish.JSON, way) is Finding.OBEYED:
        return Check("json", True, f"honoured as {way}{others}")
    return Check("json", True, f"the answer as {way} was cut or blank: nothing is known{others}")


def _passed_over(known: "Dialects", wish: "Wish") -> str:
    """What the server does not know, in brackets; empty where it knows the first."""
    from dagster_offload.slot.dialects import WAYS, Finding

    found = [(way, known.finding(wish, way)) for way in WAYS[wish]]
    words = [f"{way} {finding}" for way, finding in found if finding in {Finding.IGNORED, Finding.REFUSED}]
    return f" ({', '.join(words)})" if words else ""


def _remember(settings: "Settings", slot: "SlotConfig", client: "AIClient") -> None:
    """What was found out just now goes before what workers found out earlier; where Postgres does not run, nowhere."""
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.slots import dialects
    from dagster_offload.postgres import is_running

    if settings.postgres_url is not None or is_running(settings.home):
        with open_ledger(settings) as ledger:
            ledger.run(dialects.remember, slot, client.dialects_of(slot).findings)


def _prompt_cache(settings: "Settings", slot: "SlotConfig") -> Iterator[Check]:
    """How many documents may be in flight so that each is read once: by the server's word, and by asking twice."""
    from dagster_offload.client.prompt_cache import DOCUMENTS_TO_ASK, ask_places, calls_needed

    wanted = DOCUMENTS_TO_ASK if slot.concurrency == "auto" else slot.concurrency
    documents = min(max(2, wanted), 2 * DOCUMENTS_TO_ASK)
    word = asyncio.run(ask_places(slot))
    if word.places is not None:
        yield Check("places", True, f"{word.places}, says the server: never more documents than that are in flight")
        documents = min(documents, max(2, word.places))
    calls = f"{documents} made-up documents, each asked about twice: {calls_needed(documents)} calls of one token"
    yield Check("places", True, calls if word.places else f"the server does not tell; {calls}")
    yield asyncio.run(_reuse(settings, slot, documents))


async def _reuse(settings: "Settings", slot: "SlotConfig", documents: int) -> Check:
    import httpx

    from dagster_offload.client.ai_client import AIClient
    from dagster_offload.client.faults import fault_reason
    from dagster_offload.client.prompt_cache import find_reuse
    from dagster_offload.errors import OffloadError

    async with _permit(settings, slot) as refused, AIClient(settings.slots) as client:
        if refused:
            return Check("cache", True, refused)
        try:
            found = await find_reuse(client, slot, documents)
        except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
            return Check("cache", True, f"could not be found out: {fault_reason(error)}")
    advice = None
    if found.kept == 0:
        advice = (
            "switch the server's prompt cache on, or let it keep more (llama.cpp --parallel, mlx --prompt-cache-size)"
        )
    elif found.kept is not None and found.kept < found.asked:
        advice = f"have no more documents in flight than it keeps: dagster-offload slot set {slot.name} --places {found.kept}"
    return Check("cache", True, found.words, advice)


def _model(slot: "SlotConfig", answer: str) -> Check:
    """Which model answered, and how far the server's word for it proves anything."""
    from dagster_offload.slot.completion import Answer, ModelEvidence

    served = answer.served_model if isinstance(answer, Answer) else None
    evidence = answer.model_evidence if isinstance(answer, Answer) else ModelEvidence.ABSENT
    setting = slot.setting("expected_model")
    if evidence is ModelEvidence.REPORTED and slot.expected_model:
        return Check("model", True, f"{served} - named by the server itself, and as {setting} expects")
    if evidence is ModelEvidence.REPORTED:
        return Check(
            "model",
            True,
            f"{served} - named by the server itself; nothing is expected, so another model would pass, too",
            f"to refuse any other model: {setting}='{_pattern(served or '')}'",
        )
    if evidence is ModelEvidence.ECHOED:
        return Check("model", True, f"{served} - the name we sent, repeated: proves nothing about which model answered")
    return Check("model", True, "the server names none: nothing is known about which model answered")


def _pattern(served: str) -> str:
    """The model's name without its folder, safe as a regular expression."""
    import re

    return re.escape(served.rstrip("/").rpartition("/")[2]).replace(r"\-", "-")


def _speed(answer: str, seconds: float) -> Check:
    tokens = answer.usage.completion_tokens if hasattr(answer, "usage") else None
    if not tokens:
        return Check("speed", True, f"answered in {seconds:.1f} s (the server counts no tokens)")
    return Check(
        "speed", True, f"{tokens / seconds:.0f} tokens/s ({tokens} in {seconds:.1f} s, reading the question included)"
    )


@contextlib.asynccontextmanager
async def _permit(settings: "Settings", slot: "SlotConfig") -> AsyncIterator[str | None]:
    """Hold one of the slot's permits for the block; yields why not where none came free.

    With an embedded Postgres that does not run there is no other worker to share the slot with, so none is needed.
    """
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.core.workers import Worker
    from dagster_offload.ledger.slots import permits
    from dagster_offload.ledger.slots import slots as ledger_slots
    from dagster_offload.postgres import is_running

    if settings.postgres_url is None and not is_running(settings.home):
        yield None
        return
    with open_ledger(settings) as ledger:
        if ledger.run(ledger_slots.get, slot.name) is None:  # never used yet, so nobody else uses it
            yield None
            return
        with Worker(ledger, kind="doctor") as worker:
            deadline = time.monotonic() + PERMIT_PATIENCE_SECONDS
            while not ledger.run(permits.acquire, slot.name, worker.id, is_person=True):
                if time.monotonic() > deadline:
                    yield f"all permits of {slot.name} are in use; no call was made"
                    return
                await asyncio.sleep(0.5)
            yield None
