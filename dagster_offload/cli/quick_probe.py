"""A probe for commands that must end within a second. It uses the standard library where that is enough.

Importing the engine's HTTP client takes 0.4 s, half of the time that `status` takes.
"""

import asyncio
import http.client
from threading import Thread
from urllib.parse import quote, urlsplit

from dagster_offload import timing
from dagster_offload.errors import SettingsError
from dagster_offload.slot.addresses import USER_AGENT, auth_headers, endpoint, proxy_for
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import (
    CONNECT_SECONDS,
    MODELS_PATH,
    ProbeResult,
    busy_with_a_call,
    health_path,
    result_from_health,
    result_from_models,
)
from dagster_offload.slot.refusals import os_error_text

LONGEST_BODY_BYTES = 2**20


def quick_probe(slot: SlotConfig) -> ProbeResult:
    """Probe the slot, with the same result as `probe`. Takes at most 5 s and never raises for a fault of the slot."""
    if not slot.url.startswith("http:") or proxy_for(slot.url) is not None:
        # Only the engine's HTTP client handles certificates and proxies.
        from dagster_offload.client.probe import probe

        return asyncio.run(probe(slot))
    results: list[ProbeResult] = []
    # In a daemon thread, because a DNS lookup has no time limit. A lookup that hangs ends with the command.
    thread = Thread(target=lambda: results.append(_request(slot)), daemon=True)
    thread.start()
    thread.join(timing.current().probe_limit)
    return results[0] if results else _no_answer()


def _request(slot: SlotConfig) -> ProbeResult:
    path, is_missing = health_path(slot), False
    try:
        status_code, body = _get(slot, path, timing.current().probe_limit)
        if status_code == http.HTTPStatus.NOT_FOUND:
            is_missing = True
            return result_from_models(slot, path, *_get(slot, MODELS_PATH, timing.current().models_limit))
        return result_from_health(slot, path, status_code, body)
    except SettingsError as error:
        return ProbeResult(False, str(error))
    except _ConnectTimeoutError:
        return ProbeResult(False, "no connection in time")
    except TimeoutError:
        return busy_with_a_call(path) if is_missing else _no_answer()
    except (http.client.RemoteDisconnected, http.client.IncompleteRead):
        return ProbeResult(False, "the server closed the connection before its answer was complete")
    except OSError as error:
        return ProbeResult(False, os_error_text(error) or "cannot connect")
    except (http.client.HTTPException, ValueError):  # ValueError: an address that is none
        return ProbeResult(False, f"the server does not speak HTTP (check {slot.setting('url')})")


class _ConnectTimeoutError(Exception):
    """No connection in time. A TimeoutError means that the server accepted the connection and did not answer."""


def _no_answer() -> ProbeResult:
    return ProbeResult(False, f"no answer within {timing.current().probe_limit:g} s")


def _get(slot: SlotConfig, path: str, seconds: float) -> tuple[int, bytes]:
    """Status and body of one GET on a fresh connection."""
    address = urlsplit(endpoint(slot, path))
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=min(slot.connect_timeout, CONNECT_SECONDS)
    )
    try:
        _connect(connection)
        connection.sock.settimeout(seconds)
        connection.request(
            "GET",
            quote(address.path, safe="/%:@!$&'()*+,;=~"),
            headers={"user-agent": USER_AGENT, **auth_headers(slot)},
        )
        response = connection.getresponse()
        return response.status, response.read(LONGEST_BODY_BYTES)
    finally:
        connection.close()


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except TimeoutError as error:
        raise _ConnectTimeoutError from error
