"""Is the slot there? One health request on a fresh connection.

It is free and holds no permit, and its answer alone never opens anything: a trial does.
"""

import asyncio
from dataclasses import dataclass, replace

import httpx

from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.faults import fault_reason, is_misconfigured, setting_to_check, word_in
from dagster_offload.foreign_json import read_json
from dagster_offload.slots import SlotConfig
from dagster_offload.transport import get, open_http

CONNECT_SECONDS = 3.0
TOTAL_SECONDS = 5.0


@dataclass(frozen=True)
class ProbeResult:
    """What the probe saw. `answered`: some HTTP answer came, a red one included (the process is not frozen)."""

    healthy: bool
    reason: str
    answered: bool = False


async def probe(slot: SlotConfig) -> ProbeResult:
    """Ask the router for its health. Takes at most 5 s; never raises for a fault of the slot.

    Where the health path is 404, `/v1/models` must list the slot's model instead.
    """
    slot = replace(slot, connect_timeout=min(slot.connect_timeout, CONNECT_SECONDS))
    try:
        async with asyncio.timeout(TOTAL_SECONDS), open_http([slot], is_fresh=True) as http:
            path = "/" + slot.health_path.lstrip("/")
            response = await get(http, slot, path, TOTAL_SECONDS)
            if response.status_code == httpx.codes.NOT_FOUND:
                return _listed(slot, path, await get(http, slot, "/v1/models", TOTAL_SECONDS))
            return _judged(slot, path, response)
    except TimeoutError:
        return ProbeResult(False, f"no answer within {TOTAL_SECONDS:g} s")
    except SettingsError as error:
        return ProbeResult(False, str(error))
    except (httpx.HTTPError, httpx.InvalidURL, CutAnswer) as error:
        hint = f" (check {setting_to_check(slot, error)})" if is_misconfigured(error) else ""
        return ProbeResult(False, f"{fault_reason(error)}{hint}")


def _judged(slot: SlotConfig, path: str, response: httpx.Response) -> ProbeResult:
    if response.is_success:
        return ProbeResult(True, f"{path} says HTTP {response.status_code}", answered=True)
    status_code = response.status_code
    reason = word_in(response) or f"{path} says HTTP {status_code}"
    if is_misconfigured(status_code):
        reason += f" (check {setting_to_check(slot, status_code)})"
    return ProbeResult(False, reason, answered=True)


def _listed(slot: SlotConfig, path: str, response: httpx.Response) -> ProbeResult:
    if not response.is_success:
        return _judged(slot, "/v1/models", response)
    try:
        models = read_json(response.content)["data"]
        names = {model["id"] for model in models}
    except (ValueError, KeyError, TypeError):
        return ProbeResult(False, f"no {path}, and /v1/models is no list of models", answered=True)
    if slot.model in names:
        return ProbeResult(True, f"no {path}; /v1/models lists {slot.model}", answered=True)
    hint = f"(check {slot.setting('model')})"
    return ProbeResult(False, f"no {path}, and /v1/models does not list {slot.model} {hint}", answered=True)
