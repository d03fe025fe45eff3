"""Checks a slot's server step by step, as a person would with curl, and names the setting to change.

Each step returns a `Check` of plain values. This module does not use the ledger; the caller holds a permit for the
completions.
"""

import re
import socket
import time
from urllib.parse import urlsplit

import httpx

from dagster_offload.client.ai_client import AIClient
from dagster_offload.client.check import Check
from dagster_offload.client.context import ask_context, usable_context
from dagster_offload.client.faults import (
    fault_reason,
    is_misconfigured,
    may_be_the_model,
    reason_with_words,
    setting_to_check,
)
from dagster_offload.client.json_check import RULES, check_json, unusable_variants
from dagster_offload.client.probe import lacks_a_key, listed_models, probe
from dagster_offload.client.prompt_cache import find_reuse
from dagster_offload.errors import OffloadError, SettingsError, is_deferrable_error
from dagster_offload.slot.addresses import origin, proxy_for, sends_key_unencrypted
from dagster_offload.slot.chat import MOST_TOKENS_TO_THINK
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.dialects import (
    COST_OF_THE_USER_MESSAGE,
    IN_USER_MESSAGE,
    MAX_TOKENS,
    Dialects,
    Feature,
)
from dagster_offload.slot.health import MODELS_PATH, health_path, shown_names

QUESTION = "Count from one to forty in English words, separated by spaces."
LONGEST_WAIT_SECONDS = 120.0  # for one short answer; the model may still be loading
# Fewer show how fast the prompt was read and the request sent, not how fast the model writes.
LEAST_TOKENS_TO_MEASURE = 64


def check_key(slot: SlotConfig) -> Check | None:
    """A warning where the slot's key is sent unencrypted beyond this machine."""
    if not sends_key_unencrypted(slot):
        return None
    host, _ = address_of(slot)
    return Check(
        "key",
        True,
        f"sent to {host} unencrypted: everyone on the network can read the key and every document",
        f"put a TLS proxy (Caddy, nginx) in front of the router on {host}, then set "
        f"{slot.setting('url')}=https://{host} and, for a certificate of your own, {slot.setting('ca_file')}",
    )


def address_of(slot: SlotConfig) -> tuple[str, int]:
    """Host and port of the slot's URL."""
    parts = urlsplit(slot.url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def check_name(slot: SlotConfig) -> Check:
    """Whether the host's name resolves."""
    host, port = address_of(slot)
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return Check(
            "resolves",
            False,
            f"{host}: {error.strerror or error}",
            f"{slot.setting('url')}: the name {host} cannot be resolved. A .local name resolves only while the machine "
            "is awake; an IP address always works.",
        )
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
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
        reason = f"no answer within {slot.connect_timeout:g} s" if isinstance(error, TimeoutError) else error.strerror
        advice = f"wake {host}, or correct the host in {slot.setting('url')} (a firewall has the same effect)"
        return Check("connects", False, f"port {port}: {reason}", advice)
    return Check("connects", True, f"port {port} in {(time.monotonic() - started) * 1000:.0f} ms")


def check_proxy(slot: SlotConfig) -> Check | None:
    """The proxy that requests go through; None without one. It resolves the name and connects, not this machine."""
    try:
        proxy = proxy_for(slot.url)
    except SettingsError:  # the check of the health shows it
        return None
    if proxy is None:
        return None
    host, _ = address_of(slot)
    return Check("proxy", True, f"requests go through {origin(proxy)}; add {host} to NO_PROXY to reach it directly")


async def check_health(slot: SlotConfig) -> Check:
    """What the health probe reports, and the health path to set if the configured one is slow or needs another key."""
    result, setting = await probe(slot), slot.setting("health_path")
    if result.healthy:
        return Check("health", True, result.reason, result.advice)
    if result.is_setting:
        return _nothing_sent("health", result.reason)
    path = result.path or health_path(slot)
    if not result.answered and path != MODELS_PATH and await listed_models(slot) is not None:
        found = f"{path} gives {result.reason}, but {MODELS_PATH} answers"
        return Check("health", False, found, f"set {setting}={MODELS_PATH}", is_setting=True)
    advice = f"the server reports {result.reason}: wait until it is ready, or set {setting} to its health path"
    return Check("health", False, result.reason, advice)


def _nothing_sent(name: str, reason: str) -> Check:
    """The check of a request that could not be sent because of the setting that `reason` names."""
    return Check(name, False, "no request was sent", reason, is_setting=True)


async def check_context(slot: SlotConfig) -> Check:
    """The context size that is used: from the setting, or from the server."""
    reported, setting = await ask_context(slot), slot.setting("context_tokens")
    report = "the server reports no size" if reported is None else f"the server reports {reported:,} tokens"
    if slot.context_tokens is None:
        used = usable_context(reported)
        more = f"; {used:,} are used because {setting} is not set" if used != reported else ""
        return Check("context", True, report + more)
    advice = None
    if reported is not None and slot.context_tokens > reported:
        advice = f"lower {setting} to {reported}: until then each long document is refused once and split again"
    return Check("context", True, f"{slot.context_tokens:,} tokens, set by {setting}; {report}", advice)


def wait_seconds(slot: SlotConfig) -> float:
    """The time limit of one short answer, in seconds: the slot's read timeout, but at most two minutes."""
    return min(LONGEST_WAIT_SECONDS, slot.read_timeout)


async def check_answers(client: AIClient, slot: SlotConfig) -> list[Check]:
    """Sends a few short completions: reports the model, its speed and the request variants in use."""
    try:
        answer, seconds = await _answer_without_thinking(client, slot)
        checks = [_model(slot, answer), _speed(answer, seconds), _thinking(client, slot, answer)]
        checks.append(await check_json(client, slot, wait_seconds(slot)))
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
        return [await _refused(slot, error)]
    return checks + _uncommon_parts(client.dialects_of(slot)) if checks[-1].ok else checks


async def _refused(slot: SlotConfig, error: Exception) -> Check:
    """The check of a completion that failed, with the change that most likely helps."""
    if isinstance(error, SettingsError):
        return _nothing_sent("completion", str(error))
    reason, is_setting = reason_with_words(error), is_misconfigured(error)
    if await lacks_a_key(slot, error):
        advice = f"set {slot.setting('api_key')}: LiteLLM answers like this if no key is sent"
        return Check("completion", False, reason, advice, is_setting=True)
    listed = await listed_models(slot) if may_be_the_model(error) else None
    if listed is not None and slot.model not in listed:
        names = shown_names(slot.model, listed)
        advice = f"set {slot.setting('model')} to a name that the server lists: {names}"
        return Check("completion", False, reason, advice, is_setting)
    if listed is not None:
        advice = f"the server lists {slot.model} and refuses it: look into its log, or load the model there again"
        return Check("completion", False, reason, advice, is_setting)
    setting = setting_to_check(slot, error)
    if setting is None and is_deferrable_error(error):
        advice = "the slot is unavailable: wait until its server is ready, or look into its log"
    elif setting is None:
        advice = "the server explains its refusal itself: look into its log"
    elif is_setting:
        advice = f"check {setting}"
    else:
        advice = f"the slot is unavailable; if it should be available, check {setting}"
    return Check("completion", False, reason, advice, is_setting)


async def _answer_without_thinking(client: AIClient, slot: SlotConfig) -> tuple[Answer, float]:
    """The answer to a short question and its seconds. Tries each variant of "do not think" until one is obeyed."""
    options = RequestOptions(max_tokens=120, temperature=0.0, thinking=False, read_timeout_seconds=wait_seconds(slot))
    while True:
        started = time.monotonic()
        reply = await client._request(slot, QUESTION, system=RULES, options=options)
        answer = reply if isinstance(reply, Answer) else Answer(reply)
        if not answer.is_worth_asking_otherwise:
            return answer, time.monotonic() - started


def _thinking(client: AIClient, slot: SlotConfig, answer: Answer) -> Check:
    """Whether the server turned thinking off, and with which variant."""
    known = client.dialects_of(slot)
    variant = known.variant(Feature.NO_THINKING)
    others = unusable_variants(known, Feature.NO_THINKING)
    if answer.thinking_tokens:
        return Check(
            "thinking",
            True,
            f"the server still thinks: {answer.thinking_tokens} tokens before a short answer. Each answer gets up to "
            f"{MOST_TOKENS_TO_THINK} more tokens for this{others}",
            "turn thinking off at the server, or send the option that its documentation names: "
            f"{slot.setting('extra_body')}='{{...}}'",
        )
    if variant is None:
        return Check("thinking", True, f"the server accepts no option against thinking, but does not think{others}")
    return Check("thinking", True, f"off: obeyed as {variant}{others}")


def _uncommon_parts(known: Dialects) -> list[Check]:
    """The other parts of a request that this server needs in an uncommon form."""
    checks = []
    if known.variant(Feature.DOCUMENT) == IN_USER_MESSAGE:
        checks.append(Check("document", True, COST_OF_THE_USER_MESSAGE))
    if (variant := known.variant(Feature.TOKEN_LIMIT)) != MAX_TOKENS:
        checks.append(Check("limit", True, f"sent as {variant}: the server refuses {MAX_TOKENS}"))
    return checks


async def check_reuse(client: AIClient, slot: SlotConfig, documents: int) -> Check:
    """How many documents the server's prompt cache keeps, measured by two questions about each generated document."""
    try:
        reuse = await find_reuse(client, slot, documents)
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError) as error:
        return Check("reuse", True, f"could not be measured: {fault_reason(error)}")
    advice = None
    if reuse.kept == 0:
        advice = "turn the server's prompt cache on, or enlarge it (llama.cpp --parallel, mlx --prompt-cache-size)"
    elif reuse.kept is not None and reuse.kept < reuse.sent:
        advice = (
            "limit the documents in flight to what the cache keeps: "
            f"dagster-offload slot set {slot.name} --prompt-cache-size {reuse.kept}"
        )
    return Check("reuse", True, reuse.message, advice)


def _model(slot: SlotConfig, answer: Answer) -> Check:
    """Which model answered, and how far the server's report proves it."""
    served, evidence, setting = answer.served_model, answer.model_evidence, slot.setting("expected_model")
    if evidence is ModelEvidence.REPORTED and slot.expected_model:
        return Check("model", True, f"{served} - reported by the server, and matches {setting}")
    if evidence is ModelEvidence.REPORTED:
        return Check(
            "model",
            True,
            f"{served} - reported by the server; no expected model is set, so any model is accepted",
            f"to refuse any other model: {setting}='{_pattern(served or '')}' (answers that were made without it are outdated "
            "then)",
        )
    if evidence is ModelEvidence.ECHOED:
        return Check("model", True, f"{served} - the server repeats the name we sent, which proves nothing")
    return Check("model", True, "the server reports no name, so the model that answered is unknown")


def _pattern(served: str) -> str:
    """The model's name without its folder, escaped for a regular expression."""
    return re.escape(served.rstrip("/").rpartition("/")[2]).replace(r"\-", "-")


def _speed(answer: Answer, seconds: float) -> Check:
    tokens = answer.usage.completion_tokens
    if tokens is not None and tokens >= LEAST_TOKENS_TO_MEASURE:
        found = f"{tokens / seconds:.0f} tokens/s ({tokens} in {seconds:.1f} s, including the prompt)"
        return Check("speed", True, found)
    counted = "the server reports no token counts" if tokens is None else f"the answer has only {tokens} tokens"
    return Check("speed", True, f"unknown: answered in {seconds:.1f} s, but {counted}")
