"""The health probe of a slot: one request on a new connection.

It needs no completion and no permit. Its answer never closes a breaker; only a trial does.
"""

import asyncio
from dataclasses import replace

import httpx

from dagster_offload import timing
from dagster_offload.client.faults import fault_reason, is_misconfigured, setting_to_check
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import CutAnswer, OffloadError, SettingsError
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import (
    CONNECT_SECONDS,
    MODELS_PATH,
    ProbeResult,
    busy_with_a_call,
    health_path,
    models_in,
    result_from_health,
    result_from_models,
)


async def probe(slot: SlotConfig) -> ProbeResult:
    """Request the router's health. Takes at most 5 s and raises for no slot fault.

    If the health path returns 404, the list of models is requested instead. Some servers delay that list:
    llama-cpp-python answers it only when the current generation ends.
    """
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    path, is_missing = health_path(slot), False
    try:
        async with asyncio.timeout(timing.current().probe_limit), Http([slot], is_fresh=True) as http:
            response = await get(http, slot, path, timing.current().probe_limit)
            if response.status_code == httpx.codes.NOT_FOUND:
                is_missing = True
                models = await get(http, slot, MODELS_PATH, timing.current().models_limit)
                return result_from_models(slot, path, models.status_code, models.content)
            return result_from_health(slot, path, response.status_code, response.content)
    except TimeoutError:
        return (
            busy_with_a_call(path)
            if is_missing
            else ProbeResult(False, f"no answer within {timing.current().probe_limit:g} s")
        )
    except SettingsError as error:
        return ProbeResult(False, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, CutAnswer) as error:
        if is_missing and isinstance(error, httpx.ReadTimeout):
            return busy_with_a_call(path)
        hint = f" (check {setting_to_check(slot, error)})" if is_misconfigured(error) else ""
        return ProbeResult(False, f"{fault_reason(error)}{hint}")


async def listed_models(slot: SlotConfig) -> list[str] | None:
    """The model names that the server lists; None without a list. Takes at most 5 s and raises for no slot fault."""
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    try:
        async with asyncio.timeout(timing.current().probe_limit), Http([slot], is_fresh=True) as http:
            response = await get(http, slot, MODELS_PATH, timing.current().probe_limit)
            return models_in(response.content) if response.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, OffloadError, TimeoutError):
        return None
