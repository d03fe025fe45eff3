"""The sockets under every call to a slot: keep-alive that notices a vanished host, proxies, and errors told truly.

Everything here is about httpx on aiohttp's transport. What is sent and what an answer means stands in `client.py`.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from dagster_offload.client.connections import AnsweredUnasked, CleanConnector
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.slot.addresses import USER_AGENT, auth_headers, endpoint, origin, proxy_for
from dagster_offload.slot.config import SlotConfig

# A host that vanishes in mid-answer is noticed 35 s after its last byte, a nap shorter than that survives. Keep-alive
# alone does not notice one whose kernel still owes us an acknowledgement; TCP_USER_TIMEOUT does (measured).
KEEPALIVE_IDLE_SECONDS = 15
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 4
UNACKNOWLEDGED_SECONDS = 35

# Common servers (uvicorn, llama.cpp) close an idle connection after 5 s. Letting go first avoids sending a request
# into a connection that is just being closed, which would look like a slot that hung up.
IDLE_CONNECTION_SECONDS = 4.0

# Proxies tell much in headers; aiohttp's own bound of 8 kB would make an answer with one of them no HTTP.
LONGEST_HEADER_BYTES = 65_536

# A body without end, or a small one that unpacks without end, must not fill the memory: no answer comes near this.
LONGEST_BODY_BYTES = 16 * 2**20

# aiohttp bounds connecting a socket, not resolving a name; mDNS takes about 5 s to say that a laptop is not there.
NAME_LOOKUP_SECONDS = 6.0


class Http:
    """HTTP to the servers of some slots, each through its proxy where it has one. Used as a context manager, or closed.

    Requests are handed to httpx's transports themselves. What `httpx.AsyncClient` does around them (redirects, cookies,
    flows of authentication, hooks) is nothing we want of a slot, and it is a third of a call's processor time.
    """

    def __init__(self, slots: Iterable[SlotConfig], *, is_fresh: bool = False) -> None:
        """Sockets are opened by the event loop of the first request. Raises `SettingsError` for a bad CA file.

        `is_fresh`: every request on a connection of its own, so that an answer says something about the host now.
        """
        self._by_origin = {
            origin(slot.url): _transport(
                tls_context(slot.ca_file, slot.setting("ca_file")) if slot.url.startswith("https:") else None,
                is_fresh=is_fresh,
                proxy=proxy_for(slot.url),
            )
            for slot in slots
        }

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], timeout: httpx.Timeout, json: Any = None
    ) -> httpx.Response:
        """One request and its whole answer, with errors that say what happened.

        Redirects are answers: a redirected POST loses its body or goes to a host nobody configured. Raises `CutAnswer`
        for a body longer than any answer.
        """
        request = httpx.Request(
            method, _parsed(url), headers={**_HEADERS, **headers}, json=json, extensions={"timeout": timeout.as_dict()}
        )
        body = bytearray()
        with true_errors():
            response = await self._by_origin[origin(url)].handle_async_request(request)
            try:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > LONGEST_BODY_BYTES:
                        raise CutAnswer(f"its body is longer than {LONGEST_BODY_BYTES >> 20} MB")
            finally:
                await response.aclose()
        # The body is unpacked and whole: what spoke of its packing must not be read again.
        for name in _PACKING_HEADERS:
            response.headers.pop(name, None)
        return httpx.Response(response.status_code, headers=response.headers, content=bytes(body), request=request)

    async def aclose(self) -> None:
        for transport in self._by_origin.values():
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


_HEADERS = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "gzip, deflate"}
_PACKING_HEADERS = {"content-encoding", "transfer-encoding", "content-length"}

_parsed = lru_cache(maxsize=64)(httpx.URL)


def call_timeout(slot: SlotConfig, read_seconds: float) -> httpx.Timeout:
    return httpx.Timeout(read_seconds, connect=slot.connect_timeout, pool=slot.connect_timeout + NAME_LOOKUP_SECONDS)


@lru_cache(maxsize=4)
def tls_context(ca_file: str | None, setting: str) -> ssl.SSLContext:
    """The certificates of `ca_file`, or those httpx would trust (`SSL_CERT_FILE` and `SSL_CERT_DIR` included).

    Loaded once. Certificates are always verified: a router's own certificate, named as its CA file, is trusted.
    Raises `SettingsError` that names `setting`.
    """
    if ca_file is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one
        reason = "it holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(f"{setting}: {ca_file} cannot be used: {reason}") from None


def watchful_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket that notices a host that is gone. Not every platform has every option."""
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_SECONDS),
        ("TCP_KEEPALIVE", KEEPALIVE_IDLE_SECONDS),  # macOS's name for the same
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL_SECONDS),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
        ("TCP_USER_TIMEOUT", UNACKNOWLEDGED_SECONDS * 1000),
    ):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened


def _transport(context: ssl.SSLContext | None, *, is_fresh: bool, proxy: str | None = None) -> AiohttpTransport:
    def open_session() -> aiohttp.ClientSession:
        connector = CleanConnector(
            resolver=NameLookup(),
            socket_factory=watchful_socket,  # the transport's own `socket_options` are silently ignored
            ssl=context or True,
            limit=0,  # permits bound the calls in flight, not the pool
            force_close=is_fresh,
            keepalive_timeout=None if is_fresh else IDLE_CONNECTION_SECONDS,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=LONGEST_HEADER_BYTES,
            max_field_size=LONGEST_HEADER_BYTES,
        )

    return AiohttpTransport(
        verify=context or False,  # only read by a session of its own; False spares loading certificates again
        client=open_session,
        proxy=None if proxy is None else httpx.Proxy(proxy),
    )


async def get(http: Http, slot: SlotConfig, path: str, seconds: float) -> httpx.Response:
    """One free question to a slot's server. Raises what `Http.exchange` and `auth_headers` raise."""
    timeout = call_timeout(slot, seconds)
    return await http.exchange("GET", endpoint(slot, path), auth_headers(slot), timeout)


@contextmanager
def true_errors() -> Iterator[None]:
    """Requests inside raise errors that say what happened.

    httpx-aiohttp reports a refused connection, a failed name lookup and a server that hangs up before it answers all
    as `ConnectTimeout`. Who is suspected after a cut depends on the difference, so it is put right in this one place.
    """
    try:
        yield
    except httpx.TransportError as error:
        truer = truer_error(error)
        if truer is error:
            raise
        raise truer from error.__cause__
    except aiohttp.ClientError as error:  # what the library does not map: an answer that is no HTTP
        raise httpx.RemoteProtocolError(f"the server's answer is no HTTP: {type(error).__name__}") from error


def truer_error(error: httpx.TransportError) -> httpx.TransportError:
    """The httpx error that fits what aiohttp met; `error` itself where it is true already."""
    cause = error.__cause__
    for kind, truer in (
        (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
        (aiohttp.ClientConnectorError, httpx.ConnectError),  # refused, no such host, no route, TLS
        (AnsweredUnasked, httpx.ConnectError),  # no request was sent
        (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
        (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
        (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
        (aiohttp.ClientConnectionResetError, httpx.WriteError),
        (aiohttp.ClientOSError, httpx.ReadError),  # reset, or the host vanished, after the connection stood
    ):
        if isinstance(cause, kind):
            return error if type(error) is truer else truer(str(cause) or type(cause).__name__)
    return error


class NameLookup(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found: Future[list[ResolveResult]] = Future()
        found.set_running_or_notify_cancel()  # whoever stops waiting does not take the thread's answer away from it

        def look_up() -> None:
            try:
                found.set_result(_addresses(host, port, family))
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                found.set_exception(error)

        threading.Thread(target=look_up, name=f"look-up-{host}", daemon=True).start()
        return await asyncio.wrap_future(found)

    async def close(self) -> None:
        """Nothing is held."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # As a number that keeps the interface of a link-local address, which mDNS may well answer with.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in found
    ]
