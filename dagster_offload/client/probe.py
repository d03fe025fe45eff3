"""The health probe of a slot: a few requests on new connections.

It needs no completion and no permit. Its answer never closes a breaker; only a trial does.
"""

import asyncio
from dataclasses import replace

import httpx

from dagster_offload import timing
from dagster_offload.client.faults import fault_reason, is_misconfigured, setting_to_check, words_of
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import CutAnswer, OffloadError, SettingsError
from dagster_offload.slot.addresses import auth_headers
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import (
    CONNECT_SECONDS,
    LITELLM_ALIVE_PATH,
    MODELS_PATH,
    Get,
    ProbeResult,
    Probing,
    Reply,
    is_litellm,
    models_in,
    probing,
)

# By URL and configured path: the health path that this process found. Forgotten when the server is unreachable, because
# another server may listen there later.
_found_paths: dict[tuple[str, str], str] = {}


async def probe(slot: SlotConfig) -> ProbeResult:
    """Request the server's health. Takes at most 5 s and raises for no slot fault. `slot/health.py` chooses the paths."""
    server = (slot.url, slot.health_path)
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    try:
        async with Http([slot], is_fresh=True) as http:
            result = await _run(probing(slot, _found_paths.get(server)), http, slot)
    except SettingsError as error:
        return ProbeResult(False, str(error), is_setting=True)
    except (httpx.HTTPError, httpx.InvalidURL, CutAnswer) as error:
        _found_paths.pop(server, None)
        setting = setting_to_check(slot, error) if is_misconfigured(error) else None
        return ProbeResult(False, fault_reason(error) + (f" (check {setting})" if setting else ""))
    if result.path is not None:
        _found_paths[server] = result.path
    return result


async def _run(requests: Probing, http: Http, slot: SlotConfig) -> ProbeResult:
    deadline = asyncio.get_running_loop().time() + timing.current().probe_limit
    request = next(requests)
    while True:
        reply = await _reply(http, slot, request, deadline)
        try:
            request = requests.send(reply)
        except StopIteration as end:
            result: ProbeResult = end.value
            return result


async def _reply(http: Http, slot: SlotConfig, request: Get, deadline: float) -> Reply | None:
    """The answer to one request; None if the server accepted the connection and did not answer in time."""
    try:
        async with asyncio.timeout_at(deadline):
            response = await get(http, slot, request.path, request.seconds)
    except (TimeoutError, httpx.ReadTimeout):
        return None
    return Reply(response.status_code, response.content, response.headers)


async def listed_models(slot: SlotConfig) -> list[str] | None:
    """The model names that the server lists; None without a list. Takes at most 5 s and raises for no slot fault."""
    reply = await _get(slot, MODELS_PATH)
    return models_in(reply.body) if reply is not None and reply.is_success else None


async def lacks_a_key(slot: SlotConfig, error: Exception) -> bool:
    """Whether a refusal is LiteLLM's answer to a request without a key: a 500 without a message."""
    is_unexplained = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 500
    if not is_unexplained or auth_headers(slot) or words_of(error) is not None:
        return False
    reply = await _get(slot, LITELLM_ALIVE_PATH)
    return reply is not None and is_litellm(reply)


async def _get(slot: SlotConfig, path: str) -> Reply | None:
    """The answer to one request; None for every fault of the slot. Takes at most 5 s."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    try:
        async with asyncio.timeout(timing.current().probe_limit), Http([slot], is_fresh=True) as http:
            response = await get(http, slot, path, timing.current().probe_limit)
            return Reply(response.status_code, response.content, response.headers)
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError, TimeoutError):
        return None
