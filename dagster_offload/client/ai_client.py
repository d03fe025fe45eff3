"""Sends all completions: `AIClient`, and `call_deep_or_defer`, which turns an unavailable slot into a deferral.

The engine decides what caused an error, and the stages decide whether an answer's text is usable.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import httpx

from dagster_offload.client.faults import retry_after_of, router_reason, text_of
from dagster_offload.client.transport import Http, HttpAnswer, call_timeout
from dagster_offload.errors import SettingsError, StageDeferred, is_deferrable_error
from dagster_offload.slot.addresses import auth_headers, endpoint
from dagster_offload.slot.chat import NamedStatus, matches_expected, read_answer, request_body, with_extra
from dagster_offload.slot.completion import Answer, ModelEvidence, RequestOptions
from dagster_offload.slot.config import DEEP, NO_SLOT, PRIMARY, SlotConfig, Slots
from dagster_offload.slot.dialects import (
    COST_OF_THE_USER_MESSAGE,
    IN_USER_MESSAGE,
    ONCE_OBEYED,
    Dialects,
    Feature,
    Finding,
    Findings,
)
from dagster_offload.slot.part_refusals import is_about_one_answer, refused_feature

logger = logging.getLogger(__name__)

COMPLETIONS_PATH = "/v1/chat/completions"


class AIClient:
    """Sends completions to the slots, over one pool of connections per slot and event loop.

    Use it as `async with AIClient(slots) as client`, or `await client.aclose()` in the loop that used it.
    """

    ai: Slots

    def __init__(self, slots: Slots, dialects: Mapping[str, Findings] | None = None) -> None:
        """`dialects`: by slot name, the stored findings about what its server supports."""
        self.ai = slots
        self._dialects = {name: Dialects(findings) for name, findings in (dialects or {}).items()}
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Http]] = WeakKeyDictionary()
        self._warned: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running event loop's connections."""
        for pool in self._pools.pop(asyncio.get_running_loop(), {}).values():
            await pool.aclose()

    async def close_connections_to(self, slot: SlotConfig) -> None:
        """Close the running event loop's connections to one slot. Calls at other slots continue."""
        pool = self._pools.get(asyncio.get_running_loop(), {}).pop(slot.name, None)
        if pool is not None:
            await pool.aclose()

    async def call_deep(self, prompt: str, system: str | None = None, options: RequestOptions | None = None) -> str:
        """One completion on the deep slot, or on `primary` if no deep slot is configured.

        If the deep slot is unavailable, its error propagates: `primary` never answers in its place. Raises
        `SettingsError` without any slot.
        """
        slot = self.ai.deep if self.ai.deep is not None else self.ai.primary
        if slot is None:
            raise SettingsError(NO_SLOT)
        if options is None:
            return await self._request(slot, prompt, system=system)
        return await self._request(slot, prompt, system=system, options=options)

    async def _request(
        self, slot: SlotConfig, prompt: str, system: str | None = None, options: RequestOptions | None = None
    ) -> str:
        """Send a completion and return an `Answer`. All completions use this method, with one open request at a time.

        If the server refuses a feature of the request, also within a choice, the request is sent again with the next variant
        of that feature, or without it. Raises httpx's transport errors, `HTTPStatusError` for every status but 2xx, `CutAnswer`,
        `MalformedAnswer` and `WrongModel`.
        """
        options = options or RequestOptions()
        known = self.dialects_of(slot)
        read_seconds = slot.read_timeout if options.read_timeout_seconds is None else options.read_timeout_seconds
        tried, refused = known, list[tuple[Feature, str, bool]]()
        started = time.monotonic()
        while True:
            body = request_body(slot, prompt, system, options, variants := tried.variants)
            sent = with_extra(body, slot.extra_body)
            response = await self._post(slot, sent, read_seconds)
            answer = _answer_or_refusal(slot, response, time.monotonic() - started, sent)
            if isinstance(answer, Answer):
                break
            text = text_of(answer)
            feature = refused_feature(answer.status_code, text, body)
            if feature is None or (variant := variants[feature]) is None:
                raise _refused(slot, answer)
            refused.append((feature, variant, is_about_one_answer(answer.status_code, text)))
            tried = known.copy() if tried is known else tried
            tried.note(feature, variant, Finding.REFUSED)
        before, document = known.copy(), hash(system or prompt)
        for feature, variant, of_one_answer in refused:
            known.note_refusal(feature, variant, document, is_about_one_answer=of_one_answer)
        known.learn(variants, options, answer, document, time.monotonic())
        _log_what_changed(slot, before, known)
        self._warn_unverified(slot, answer)
        return answer

    def dialects_of(self, slot: SlotConfig) -> Dialects:
        """The findings so far about what the slot's server supports."""
        if slot.name not in self._dialects:
            self._dialects[slot.name] = Dialects()
        return self._dialects[slot.name]

    async def _post(self, slot: SlotConfig, body: dict[str, Any], read_seconds: float) -> HttpAnswer:
        """One POST and its complete answer. `read_seconds` limits each wait for bytes, and the total time."""
        timeout = call_timeout(slot, read_seconds)
        try:
            # A proxy that sends blanks to keep a connection open defeats the timeout between two reads.
            async with asyncio.timeout(slot.connect_timeout + read_seconds):
                address, headers = endpoint(slot, COMPLETIONS_PATH), auth_headers(slot)
                return await self._http(slot).exchange("POST", address, headers, timeout, json=body)
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no complete answer within {read_seconds:g} s") from error

    def _http(self, slot: SlotConfig) -> Http:
        pools = self._pools.setdefault(asyncio.get_running_loop(), {})
        if slot.name not in pools:
            pools[slot.name] = Http([slot])
        return pools[slot.name]

    def _warn_unverified(self, slot: SlotConfig, answer: Answer) -> None:
        """Log once per slot that `expected_model` cannot be verified."""
        if slot.expected_model is None or answer.model_evidence is ModelEvidence.REPORTED or slot.name in self._warned:
            return
        if answer.model_evidence is ModelEvidence.ECHOED and matches_expected(slot, slot.model):
            return
        behaviour = "repeats the model name we sent" if answer.served_model else "names no model"
        logger.warning(
            "the %s slot's server %s in its answers, so %s=%s cannot be verified; its answers are accepted",
            slot.name, behaviour, slot.setting("expected_model"), slot.expected_model,
        )  # fmt: skip
        self._warned.add(slot.name)


def _answer_or_refusal(
    slot: SlotConfig, response: HttpAnswer, seconds: float, sent: dict[str, Any]
) -> Answer | httpx.Response:
    """The answer, or the refusal in its place: a status, or an error with a status of its own. Raises what `read_answer`
    raises."""
    if not response.is_success:
        assert isinstance(response, httpx.Response)  # noqa: S101 - for the type checker: a refusal is one
        return response
    try:
        return read_answer(slot, response.content, response.headers, seconds, sent)
    except NamedStatus as named:
        request = httpx.Request("POST", endpoint(slot, COMPLETIONS_PATH), headers=auth_headers(slot), json=sent)
        # No other headers are read of a refusal, and those about the encoding no longer apply.
        kept = {name: response.headers[name] for name in ("retry-after", "date") if name in response.headers}
        content = json.dumps(named.body).encode()
        return httpx.Response(named.status_code, headers=kept, content=content, request=request)


def _refused(slot: SlotConfig, response: httpx.Response) -> httpx.HTTPStatusError:
    """Not `raise_for_status`: its message contains the URL, which may contain a password."""
    message = f"the {slot.name} slot answered HTTP {response.status_code}"
    return httpx.HTTPStatusError(message, request=response.request, response=response)


def _log_what_changed(slot: SlotConfig, before: Dialects, known: Dialects) -> None:
    if known.has_findings_of(before):
        return
    for feature in Feature:
        variant, now = before.variant(feature), known.variant(feature)
        if variant is None:
            continue
        if now == variant:
            is_new = known.finding(feature, variant) is not before.finding(feature, variant)
            if is_new and known.finding(feature, variant) is Finding.IN_REASONING:
                logger.info(
                    "the %s slot's server puts its JSON into its reasoning field; it is read from there", slot.name
                )
            continue
        instead = "it is no longer sent" if now is None else f"it is now sent as {now}"
        if now is not None and known.finding(feature, now) is Finding.ASKED_AGAIN:
            instead = f"{now}, which it obeyed before, is tried again"
        finding = known.finding(feature, variant)
        did = "no longer obeys" if finding in ONCE_OBEYED else finding
        logger.info("the %s slot's server %s %s as %s: %s", slot.name, did, feature, variant, instead)
        if now == IN_USER_MESSAGE:
            logger.warning("%s slot: %s", slot.name, COST_OF_THE_USER_MESSAGE)


async def call_deep_or_defer(
    client: AIClient, prompt: str, system: str | None = None, options: RequestOptions | None = None
) -> str:
    """`client.call_deep`, but raises `StageDeferred` if the slot is unavailable. Other errors propagate unchanged."""
    try:
        if options is None:
            return await client.call_deep(prompt, system=system)
        return await client.call_deep(prompt, system=system, options=options)
    except Exception as error:
        if not is_deferrable_error(error):
            raise
        slot_name = DEEP if client.ai.deep is not None else PRIMARY
        retry_after = retry_after_of(error)
        raise StageDeferred(
            f"{slot_name}_unavailable:{router_reason(error) or type(error).__name__}",
            retry_after_minutes=None if retry_after is None else retry_after / 60,
        ) from error
