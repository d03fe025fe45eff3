"""The sockets under every call to a slot: keep-alive that detects a vanished host, proxies, and accurate errors.

This module uses httpx on aiohttp's transport. `ai_client.py` decides what is sent and what an answer means.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from httpx_aiohttp import AiohttpTransport

from dagster_offload.client.connections import CleanConnector, UnsolicitedAnswer
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.slot.addresses import USER_AGENT, auth_headers, endpoint, origin, proxy_for
from dagster_offload.slot.config import SlotConfig

# A host that vanishes during an answer is detected 35 s after its last byte; the call survives a shorter sleep.
# Keep-alive alone does not detect a host that still owes an acknowledgement; TCP_USER_TIMEOUT does (measured).
KEEPALIVE_IDLE_SECONDS = 15
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 4
UNACKNOWLEDGED_SECONDS = 35

# Common servers (uvicorn, llama.cpp) close an idle connection after 5 s. We close it earlier, so that no request is sent
# on a connection that the server is closing: that would look like a slot that disconnected.
IDLE_CONNECTION_SECONDS = 4.0

# Proxies send long headers; with aiohttp's default limit of 8 kB, such an answer would be rejected as invalid HTTP.
LONGEST_HEADER_BYTES = 65_536

# An endless body, or a small one that decompresses endlessly, must not fill the memory. No answer is nearly this long.
LONGEST_BODY_BYTES = 16 * 2**20

# aiohttp limits the time to connect a socket, not to resolve a name. mDNS takes about 5 s to report a missing laptop.
NAME_LOOKUP_SECONDS = 6.0


class Http:
    """HTTP to the servers of some slots, through a proxy where one applies. Use it as a context manager, or close it.

    Requests go directly to httpx's transports. What `httpx.AsyncClient` adds (redirects, cookies, authentication flows,
    hooks) is not needed here, and takes a third of a call's processor time.
    """

    def __init__(self, slots: Iterable[SlotConfig], *, is_fresh: bool = False) -> None:
        """The event loop of the first request opens the sockets. Raises `SettingsError` for a bad CA file.

        `is_fresh`: each request uses a new connection, so that its answer shows the present state of the host.
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
        """Send one request and read its complete answer.

        Redirects are returned, not followed: a redirected POST loses its body or goes to a host that is not configured.
        Raises `CutAnswer` for a body over 16 MB, and httpx errors corrected by `corrected_errors`.
        """
        request = httpx.Request(
            method, _parsed(url), headers={**_HEADERS, **headers}, json=json, extensions={"timeout": timeout.as_dict()}
        )
        body = bytearray()
        with corrected_errors():
            response = await self._by_origin[origin(url)].handle_async_request(request)
            try:
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > LONGEST_BODY_BYTES:
                        raise CutAnswer(f"its body is longer than {LONGEST_BODY_BYTES >> 20} MB")
            finally:
                await response.aclose()
        # The body is decompressed and complete, so headers about its encoding no longer apply.
        lasting = [(name, value) for name, value in response.headers.raw if name.lower() not in _PACKING_HEADERS]
        return httpx.Response(response.status_code, headers=lasting, content=bytes(body), request=request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_origin.values():
            await transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


_HEADERS = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "gzip, deflate"}
_PACKING_HEADERS = {b"content-encoding", b"transfer-encoding", b"content-length"}

_parsed = lru_cache(maxsize=64)(httpx.URL)


def call_timeout(slot: SlotConfig, read_seconds: float) -> httpx.Timeout:
    """The timeouts of one call, in seconds; the name lookup has its own limit."""
    return httpx.Timeout(read_seconds, connect=slot.connect_timeout, pool=slot.connect_timeout + NAME_LOOKUP_SECONDS)


@lru_cache(maxsize=4)
def tls_context(ca_file: str | None, setting: str) -> ssl.SSLContext:
    """A TLS context that trusts `ca_file`, or what httpx trusts by default (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

    Loaded once. Certificates are always verified; a router's self-signed certificate is trusted if `ca_file` names it.
    Raises a `SettingsError` that names `setting`.
    """
    if ca_file is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one
        reason = "it contains no certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(f"{setting}: {ca_file} cannot be used: {reason}") from None


def keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """A TCP socket that detects a vanished host. Some platforms lack some of these options."""
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
            socket_factory=keepalive_socket,  # the transport silently ignores its own `socket_options`
            ssl=context or True,
            limit=0,  # permits limit the calls in flight, not the pool
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
        verify=context or False,  # unused, as we pass a session; False avoids loading the certificates again
        client=open_session,
        proxy=None if proxy is None else httpx.Proxy(proxy),
    )


async def get(http: Http, slot: SlotConfig, path: str, seconds: float) -> httpx.Response:
    """One GET request to a slot's server, without a completion. Raises what `Http.exchange` and `auth_headers` raise."""
    timeout = call_timeout(slot, seconds)
    return await http.exchange("GET", endpoint(slot, path), auth_headers(slot), timeout)


@contextmanager
def corrected_errors() -> Iterator[None]:
    """Replace misleading transport errors of the requests inside.

    httpx-aiohttp reports a refused connection, a failed name lookup and a server that disconnects before it answers all
    as `ConnectTimeout`. Which document becomes a suspect depends on the difference, so this function corrects the error.
    """
    try:
        yield
    except httpx.TransportError as error:
        corrected = corrected_error(error)
        if corrected is error:
            raise
        raise corrected from error.__cause__
    except aiohttp.ClientError as error:  # the library does not map it: the answer is not HTTP
        raise httpx.RemoteProtocolError(f"the server's answer is not HTTP: {type(error).__name__}") from error


def corrected_error(error: httpx.TransportError) -> httpx.TransportError:
    """The httpx error that matches aiohttp's error; `error` itself if it already does."""
    cause = error.__cause__
    for kind, accurate in (
        (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
        (aiohttp.ClientConnectorError, httpx.ConnectError),  # refused, no such host, no route, TLS
        (UnsolicitedAnswer, httpx.ConnectError),  # no request was sent
        (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
        (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
        (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
        (aiohttp.ClientConnectionResetError, httpx.WriteError),
        (aiohttp.ClientOSError, httpx.ReadError),  # reset, or the host vanished, after connecting
    ):
        if isinstance(cause, kind):
            return error if type(error) is accurate else accurate(str(cause) or type(cause).__name__)
    return error


class NameLookup(AbstractResolver):
    """Resolves each name in a daemon thread of its own, so that a slow lookup blocks neither other calls nor the exit."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises `OSError` if it cannot be resolved."""
        return await asyncio.wrap_future(start_in_daemon_thread(_addresses, host, port, family))

    async def close(self) -> None:
        """Nothing to close."""


def _addresses(host: str, port: int, family: socket.AddressFamily) -> list[ResolveResult]:
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            # Numeric, with the interface of a link-local address, which mDNS often returns.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=kind,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, protocol, _, address in addresses
    ]
