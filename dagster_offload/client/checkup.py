"""What a slot's server does when it is tried step by step, as a person would with curl, and the setting to change.

Each step is a `Check` in plain values. Nothing here touches the ledger: the caller holds a permit for the completions.
"""

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.context import ask_context, usable_context
from dagster_offload.client.faults import fault_reason, is_misconfigured, setting_to_check
from dagster_offload.client.probe import probe
from dagster_offload.client.prompt_cache import find_reuse
from dagster_offload.errors import OffloadError
from dagster_offload.slot.addresses import sends_key_in_the_clear
from dagster_offload.slot.chat import LENGTH, MOST_TOKENS_TO_THINK
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import (
    IN_USER_MESSAGE,
    MAX_TOKENS,
    PRICE_OF_THE_USER_MESSAGE,
    USABLE,
    VARIANTS,
    Dialects,
    Feature,
    Finding,
    shown_of_json,
)

RULES = "You answer short questions."  # a system message, as every document has one
QUESTION = "Count from one to forty in English words, separated by spaces."
# OpenAI and DeepSeek want the word in the prompt before they promise a JSON object; the question does not ask for one.
JSON_QUESTION = "This tests JSON output. Name a colour of the rainbow, in one word."
LONGEST_WAIT_SECONDS = 120.0  # for one short answer, which may find the model still loading


@dataclass(frozen=True)
class Check:
    """One step. `advice` is the line to change, where this step knows it; `is_setting`: waiting does not help."""

    name: str
    ok: bool
    found: str
    advice: str | None = None
    is_setting: bool = False


def advice_of(checks: Sequence[Check]) -> str | None:
    """The line to change: a setting that is surely wrong, else what the last step that failed says, else a proposal."""
    failed = [check for check in checks if not check.ok]
    best = [check for check in failed if check.is_setting] or failed[-1:] or [check for check in checks if check.advice]
    return best[0].advice if best else None


def check_key(slot: SlotConfig) -> Check | None:
    """A warning where the slot's key is sent unencrypted beyond this machine."""
    if not sends_key_in_the_clear(slot):
        return None
    host, _ = address_of(slot)
    return Check(
        "key",
        True,
        f"sent to {host} unencrypted: everyone on the network can read it, and every document",
        f"put a proxy that speaks TLS (Caddy, nginx) in front of the router on {host}, then set "
        f"{slot.setting('url')}=https://{host} and, for a certificate of your own, {slot.setting('ca_file')}",
    )


def address_of(slot: SlotConfig) -> tuple[str, int]:
    parts = urlsplit(slot.url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def check_name(slot: SlotConfig) -> Check:
    """Whether the host's name is known."""
    host, port = address_of(slot)
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


def check_connection(slot: SlotConfig) -> Check:
    """Whether something listens at the port."""
    host, port = address_of(slot)
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


async def check_health(slot: SlotConfig) -> Check:
    seen = await probe(slot)
    advice = None
    if not seen.healthy:
        advice = f"the router says {seen.reason}: wait for it, or correct {slot.setting('health_path')}"
    return Check("health", seen.healthy, seen.reason, advice)


async def check_context(slot: SlotConfig) -> Check:
    """How much of a document one request takes: by the owner's word, or by the server's."""
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


def wait_seconds(slot: SlotConfig) -> float:
    """Seconds for one short answer: the owner's word goes first where it is shorter."""
    return min(LONGEST_WAIT_SECONDS, slot.read_timeout)


async def check_answers(client: AIClient, slot: SlotConfig) -> list[Check]:
    """A few short completions: the model, its speed, and in which dialects the server is asked."""
    try:
        answer, seconds = await _answer_without_thinking(client, slot)
        checks = [_model(slot, answer), _speed(answer, seconds), _thinking(client, slot, answer)]
        checks.append(await _json(client, slot))
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
        is_setting = is_misconfigured(error)
        setting = setting_to_check(slot, error)
        advice = f"correct {setting}" if is_setting else f"the slot is away; if that is not so, look at {setting}"
        return [Check("completion", False, fault_reason(error), advice, is_setting)]
    return checks + _requests(client.dialects_of(slot))


async def _answer_without_thinking(client: AIClient, slot: SlotConfig) -> tuple[Answer, float]:
    """The answer to a short question and its seconds, asked in each dialect of `do not think` until one is obeyed."""

    options = RequestOptions(max_tokens=120, temperature=0.0, thinking=False, read_timeout_seconds=wait_seconds(slot))
    while True:
        started = time.monotonic()
        said = await client._request(slot, QUESTION, system=RULES, options=options)
        answer = said if isinstance(said, Answer) else Answer(said)
        if not answer.is_worth_asking_otherwise:
            return answer, time.monotonic() - started


def _thinking(client: AIClient, slot: SlotConfig, answer: Answer) -> Check:
    """Whether the server obeyed the feature not to think, and in which dialect."""

    known = client.dialects_of(slot)
    variant = known.variant(Feature.NO_THINKING)
    others = _passed_over(known, Feature.NO_THINKING)
    if answer.thinking_tokens:
        return Check(
            "thinking",
            True,
            f"the server thinks all the same: {answer.thinking_tokens} tokens before a short answer. Answers get up to "
            f"{MOST_TOKENS_TO_THINK} tokens more for it{others}",
            f"turn thinking off at the server, or say how it wants to be told: {slot.setting('extra_body')}='{{...}}'",
        )
    if variant is None:
        return Check("thinking", True, f"the server knows no word against it, and does not think{others}")
    return Check("thinking", True, f"off: obeyed as {variant}{others}")


async def _json(client: AIClient, slot: SlotConfig) -> Check:
    """Which variant of asking for JSON is obeyed: the question itself asks for no such thing, so that one answer shows it."""
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
        read_timeout_seconds=wait_seconds(slot),
    )
    while known.variant(Feature.JSON) is not None:
        said = await client._request(slot, JSON_QUESTION, system=RULES, options=options)
        answer = said if isinstance(said, Answer) else Answer(said)
        used, shown = answer.variants.get(Feature.JSON), shown_of_json(answer)
        if used is None:
            break
        if shown is None or (shown is Finding.EMPTY and answer.finish_reason == LENGTH):
            passed_over = _passed_over(known, Feature.JSON)
            return Check("json", True, f"the answer as {used} was cut or blank: nothing is known{passed_over}")
        if shown in USABLE:
            where = ", in its field for thinking" if shown is Finding.IN_REASONING else ""
            return Check("json", True, f"obeyed as {used}{where}{_passed_over(known, Feature.JSON)}")
        known.note(Feature.JSON, used, shown)
    return Check(
        "json", True, f"the prompt alone asks for it, every answer is checked{_passed_over(known, Feature.JSON)}"
    )


def _requests(known: Dialects) -> list[Check]:
    """What of a request's plain parts this server wants otherwise than most."""
    checks = []
    if known.variant(Feature.DOCUMENT) == IN_USER_MESSAGE:
        checks.append(Check("document", True, PRICE_OF_THE_USER_MESSAGE))
    if (variant := known.variant(Feature.TOKEN_LIMIT)) != MAX_TOKENS:
        checks.append(Check("limit", True, f"sent as {variant}: the server refuses {MAX_TOKENS}"))
    return checks


def _passed_over(known: Dialects, feature: Feature) -> str:
    """What the server does not obey, in brackets; empty where it obeys the first."""
    found = [(variant, known.finding(feature, variant)) for variant in VARIANTS[feature]]
    words = [f"{variant} {finding}" for variant, finding in found if finding not in USABLE]
    return f" ({', '.join(words)})" if words else ""


async def check_reuse(client: AIClient, slot: SlotConfig, documents: int) -> Check:
    """How many documents the server's prompt cache keeps, by asking twice about each of so many made-up ones."""
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
        advice = (
            "keep no more documents in flight than it caches: "
            f"dagster-offload slot set {slot.name} --prompt-cache-size {found.kept}"
        )
    return Check("cache", True, found.words, advice)


def _model(slot: SlotConfig, answer: str) -> Check:
    """Which model answered, and how far the server's word for it proves anything."""
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
    return re.escape(served.rstrip("/").rpartition("/")[2]).replace(r"\-", "-")


def _speed(answer: str, seconds: float) -> Check:
    tokens = answer.usage.completion_tokens if hasattr(answer, "usage") else None
    if not tokens:
        return Check("speed", True, f"answered in {seconds:.1f} s (the server counts no tokens)")
    return Check(
        "speed", True, f"{tokens / seconds:.0f} tokens/s ({tokens} in {seconds:.1f} s, reading the question included)"
    )
