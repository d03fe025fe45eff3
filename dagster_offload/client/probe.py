"""Is the slot there? One health request on a fresh connection.

It is free and holds no permit, and its answer alone never opens anything: a trial does.
"""

import asyncio
from dataclasses import replace

import httpx

from dagster_offload import timing
from dagster_offload.client.faults import fault_reason, is_misconfigured, setting_to_check
from dagster_offload.client.transport import Http, get
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import (
    CONNECT_SECONDS,
    MODELS_PATH,
    ProbeResult,
    health_path,
    judged,
    judged_by_models,
)


async def probe(slot: SlotConfig) -> ProbeResult:
    """Ask the router for its health. Takes at most 5 s; never raises for a fault of the slot.

    Where the health path is 404, `/v1/models` must list the slot's model instead.
    """
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    limit = timing.current().probe_limit
    try:
        async with asyncio.timeout(limit), Http([slot], is_fresh=True) as http:
            path = health_path(slot)
            response = await get(http, slot, path, limit)
            if response.status_code == httpx.codes.NOT_FOUND:
                models = await get(http, slot, MODELS_PATH, limit)
                return judged_by_models(slot, path, models.status_code, models.content)
            return judged(slot, path, response.status_code, response.content)
    except TimeoutError:
        return ProbeResult(False, f"no answer within {limit:g} s")
    except SettingsError as error:
        return ProbeResult(False, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, CutAnswer) as error:
        hint = f" (check {setting_to_check(slot, error)})" if is_misconfigured(error) else ""
        return ProbeResult(False, f"{fault_reason(error)}{hint}")
