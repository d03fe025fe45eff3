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
from dagster_offload.slot.health import CONNECT_SECONDS, Get, ProbeResult, Reply, no_answer, probing
from dagster_offload.slot.refusals import CONNECTION_CLOSED, NOT_HTTP, os_error_text

LONGEST_BODY_BYTES = 2**20


def quick_probe(slot: SlotConfig) -> ProbeResult:
    """Probe the slot, with the same result as `probe`. Takes at most 5 s and never raises for a fault of the slot."""
    if slot.key_problem is not None:
        return ProbeResult(False, slot.key_problem, is_setting=True)
    try:
        is_direct = slot.url.startswith("http:") and proxy_for(slot.url) is None
    except SettingsError as error:
        return ProbeResult(False, str(error), is_setting=True)
    if not is_direct:
        # Only the engine's HTTP client handles certificates and proxies.
        from dagster_offload.client.probe import probe

        return asyncio.run(probe(slot))
    results: list[ProbeResult] = []
    # In a daemon thread, because a DNS lookup has no time limit. A lookup that hangs ends with the command.
    thread = Thread(target=lambda: results.append(_request(slot)), daemon=True)
    thread.start()
    thread.join(timing.current().probe_limit)
    return results[0] if results else no_answer()


def _request(slot: SlotConfig) -> ProbeResult:
    requests = probing(slot)
    try:
        request = next(requests)
        while True:
            request = requests.send(_reply(slot, request))
    except StopIteration as end:
        result: ProbeResult = end.value
        return result
    except SettingsError as error:
        return ProbeResult(False, str(error), is_setting=True)
    except _ConnectTimeoutError:
        return ProbeResult(False, "no connection in time")
    except (http.client.RemoteDisconnected, http.client.IncompleteRead):
        return ProbeResult(False, CONNECTION_CLOSED)
    except OSError as error:
        return ProbeResult(False, os_error_text(error) or "cannot connect")
    except (http.client.HTTPException, ValueError):  # ValueError: an address that is none
        return ProbeResult(False, f"{NOT_HTTP} (check {slot.setting('url')})")


def _reply(slot: SlotConfig, request: Get) -> Reply | None:
    """The answer to one request; None if the server accepted the connection and did not answer in time."""
    try:
        return _get(slot, request)
    except TimeoutError:
        return None


class _ConnectTimeoutError(Exception):
    """No connection in time."""


def _get(slot: SlotConfig, request: Get) -> Reply:
    """The answer to one GET on a fresh connection. Raises `TimeoutError` if none came in time."""
    address = urlsplit(endpoint(slot, request.path))
    connection = http.client.HTTPConnection(
        address.hostname or "", address.port, timeout=min(slot.connect_timeout, CONNECT_SECONDS)
    )
    try:
        _connect(connection)
        connection.sock.settimeout(request.seconds)
        connection.request(
            "GET",
            quote(address.path, safe="/%:@!$&'()*+,;=~"),
            headers={"user-agent": USER_AGENT, **auth_headers(slot)},
        )
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, response.read(LONGEST_BODY_BYTES), headers)
    finally:
        connection.close()


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except TimeoutError as error:
        raise _ConnectTimeoutError from error
