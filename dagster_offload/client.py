"""All completions go through here: `AIClient`, and `call_deep_or_defer`, which turns an absent slot into a deferral.

Nothing here decides whose fault an error is (the engine does) or whether an answer's text is usable (the stages do).
"""

import asyncio
import logging
import time
from types import TracebackType
from typing import Any, Self
from weakref import WeakKeyDictionary

import httpx

from dagster_offload.chat import matches_expected, read_answer, refused_part, request_body
from dagster_offload.completion import Answer, ModelEvidence, RequestOptions
from dagster_offload.errors import SettingsError, StageDeferred, is_deferrable_error
from dagster_offload.faults import fault_reason, is_cut, retry_after_of, router_word, setting_to_check
from dagster_offload.slots import DEEP, PRIMARY, SlotConfig, Slots
from dagster_offload.transport import auth_headers, call_timeout, endpoint, exchange, open_http

__all__ = [
    "AIClient",
    "call_deep_or_defer",
    "fault_reason",
    "is_cut",
    "retry_after_of",
    "setting_to_check",
]

logger = logging.getLogger(__name__)

# A 500 for an answer outside the grammar may be that one answer's; said three times running it is the server's.
SERVER_ERRORS_UNTIL_LEFT_OUT = 3


class AIClient:
    """Sends completions to the slots, over one pool of connections per event loop.

    Use it as `async with AIClient(slots) as client`, or `await client.aclose()` in the loop that used it.
    """

    ai: Slots

    def __init__(self, slots: Slots) -> None:
        self.ai = slots
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._refusals: dict[tuple[str, str], int] = {}  # (slot, optional part): how often refused; see `_refused`
        self._warned: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the running event loop's connections."""
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def call_deep(self, prompt: str, system: str | None = None, options: RequestOptions | None = None) -> str:
        """One completion on the deep slot; on `primary` only where no deep slot is configured.

        With a deep slot configured and away, its error propagates: `primary` never answers in its place.
        """
        slot = self.ai.deep if self.ai.deep is not None else self.ai.primary
        if slot is None:
            raise SettingsError("no slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL")
        if options is None:
            return await self._request(slot, prompt, system=system)
        return await self._request(slot, prompt, system=system, options=options)

    async def _request(
        self, slot: SlotConfig, prompt: str, system: str | None = None, options: RequestOptions | None = None
    ) -> str:
        """The one method that sends a completion. Returns an `Answer`; one request is open at a time.

        Raises httpx's transport errors, `HTTPStatusError` for everything but a 2xx, `CutAnswer`, `MalformedAnswer` and
        `WrongModel`. A part of the request that this server does not know (`response_format`) is left out and asked
        again without.
        """
        body = request_body(slot, prompt, system, options)
        for known_refused in [part for part in body if self._is_left_out(slot, part)]:
            del body[known_refused]
        read_seconds = slot.read_timeout
        if options is not None and options.read_timeout_seconds is not None:
            read_seconds = options.read_timeout_seconds
        started = time.monotonic()
        response = await self._post(slot, body, read_seconds)
        left_out: dict[str, int] = {}
        while (part := refused_part(response.status_code, response.text, body)) is not None:
            left_out[part] = response.status_code
            del body[part]
            response = await self._post(slot, body, read_seconds)
        if not response.is_success:
            # Not raise_for_status: its message holds the URL, and a URL may hold a password.
            message = f"the {slot.name} slot answered HTTP {response.status_code}"
            raise httpx.HTTPStatusError(message, request=response.request, response=response)
        for part, status_code in left_out.items():
            self._remember_refusal(slot, part, status_code)
        if "response_format" in body:
            self._refusals.pop((slot.name, "response_format"), None)
        answer = read_answer(slot, response.content, response.headers, time.monotonic() - started)
        self._warn_unverified(slot, answer)
        return answer

    async def _post(self, slot: SlotConfig, body: dict[str, Any], read_seconds: float) -> httpx.Response:
        """One POST with its whole answer read. `read_seconds` bounds every wait for bytes, and all of them together."""
        timeout = call_timeout(slot, read_seconds)
        try:
            # A proxy that drips blanks to keep a connection open defeats the timeout between two reads.
            async with asyncio.timeout(slot.connect_timeout + read_seconds):
                return await exchange(
                    self._pool(),
                    "POST",
                    endpoint(slot, "/v1/chat/completions"),
                    json=body,
                    headers=auth_headers(slot),
                    timeout=timeout,
                )
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no whole answer within {read_seconds:g} s") from error

    def _pool(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._pools:
            self._pools[loop] = open_http(slot for slot in (self.ai.deep, self.ai.primary) if slot is not None)
        return self._pools[loop]

    def _is_left_out(self, slot: SlotConfig, part: str) -> bool:
        return self._refusals.get((slot.name, part), 0) >= SERVER_ERRORS_UNTIL_LEFT_OUT

    def _remember_refusal(self, slot: SlotConfig, part: str, status_code: int) -> None:
        """After an answer without `part`: a 4xx or 501 spoke about the request, a 500 perhaps about one answer."""
        is_certain = status_code != httpx.codes.INTERNAL_SERVER_ERROR
        count = SERVER_ERRORS_UNTIL_LEFT_OUT if is_certain else self._refusals.get((slot.name, part), 0) + 1
        self._refusals[slot.name, part] = count
        if count == SERVER_ERRORS_UNTIL_LEFT_OUT:
            logger.info("the %s slot refuses %s (HTTP %s): asking without it from now on", slot.name, part, status_code)

    def _warn_unverified(self, slot: SlotConfig, answer: Answer) -> None:
        """Say once per slot that `expected_model` could not be judged: we do not pretend to have verified."""
        if slot.expected_model is None or answer.model_evidence is ModelEvidence.REPORTED or slot.name in self._warned:
            return
        if answer.model_evidence is ModelEvidence.ECHOED and matches_expected(slot, slot.model):
            return
        did = "repeats the alias we asked for" if answer.served_model else "names no model"
        logger.warning(
            "the %s slot's server %s in its answers, so %s=%s cannot be verified; its answers are accepted",
            slot.name, did, slot.setting("expected_model"), slot.expected_model,
        )  # fmt: skip
        self._warned.add(slot.name)


async def call_deep_or_defer(
    client: AIClient, prompt: str, system: str | None = None, options: RequestOptions | None = None
) -> str:
    """`client.call_deep`, with an absent slot as `StageDeferred`. Every other error propagates unchanged."""
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
            f"{slot_name}_unavailable:{router_word(error) or type(error).__name__}",
            retry_after_minutes=None if retry_after is None else retry_after / 60,
        ) from error
