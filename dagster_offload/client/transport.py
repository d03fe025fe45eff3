"""The sockets under every call to a slot: keep-alive that detects a vanished host, proxies, and accurate errors.

Requests go through aiohttp; refusals and errors are httpx's. `ai_client.py` decides what is sent and what an answer means.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Protocol, Self

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic_core import to_json

from dagster_offload.client.connections import CleanConnector, UnsolicitedAnswer
from dagster_offload.errors import CutAnswer, SettingsError
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.slot.addresses import USER_AGENT, auth_headers, basic, endpoint, origin, proxy_for
from dagster_offload.slot.config import SlotConfig
from dagster_offload.text.sizes import shown_size

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
PACKED_PIECE_BYTES = 16_384

# aiohttp limits the time to connect a socket, not to resolve a name. mDNS takes about 5 s to report a missing laptop.
NAME_LOOKUP_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A complete answer with a 2xx status; the names of its headers are found in any case. httpx's own `Response`, which is
    needed for errors only, takes as long to build as the answer's JSON takes to read."""

    is_success: ClassVar[bool] = True
    status_code: int
    headers: Mapping[str, str]
    content: bytes


HttpAnswer = Accepted | httpx.Response


class Sender(Protocol):
    """Sends requests to one server, over its own connections."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: httpx.Timeout
    ) -> HttpAnswer:
        """Send one request and read its complete answer. Raises what `Http.exchange` raises."""

    async def aclose(self) -> None:
        """Close the connections."""


class Http:
    """HTTP to the servers of some slots, through a proxy where one applies. Use it as a context manager, or close it."""

    def __init__(self, slots: Iterable[SlotConfig], *, is_fresh: bool = False) -> None:
        """The event loop of the first request opens the sockets. Raises `SettingsError` for a bad CA file or a proxy
        that does not speak HTTP.

        `is_fresh`: each request uses a new connection, so that its answer shows the present state of the host.
        """
        self._by_origin = {
            origin(slot.url): _sender(
                tls_context(slot.ca_file, slot.setting("ca_file")) if slot.url.startswith("https:") else None,
                is_fresh=is_fresh,
                proxy=proxy_for(slot.url),
            )
            for slot in slots
        }

    async def exchange(
        self, method: str, url: str, headers: Mapping[str, str], timeout: httpx.Timeout, json: Any = None
    ) -> HttpAnswer:
        """Send one request and read its complete answer: httpx's `Response` with its `request`, unless its status is 2xx.

        Redirects are returned, not followed: a redirected POST loses its body or goes to a host that is not configured.
        Raises `CutAnswer` for a body over 16 MiB, and httpx's errors of transport and decoding.
        """
        sent, content = {**_HEADERS, **headers}, None
        if json is not None:
            sent["content-type"] = "application/json"
            content = to_json(json)
        return await self._by_origin[origin(url)].send(method, url, sent, content, timeout)

    async def aclose(self) -> None:
        """Close all connections."""
        for sender in self._by_origin.values():
            await sender.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()


class AiohttpSender:
    """Sends requests with aiohttp. httpx's transports on top of it would add a third of its processor time."""

    def __init__(self, context: ssl.SSLContext | None, *, is_fresh: bool, proxy: str | None = None) -> None:
        self._context, self._is_fresh = context, is_fresh
        self._proxy: dict[str, Any] = {}
        self._password_of_proxy: dict[str, str] = {}
        if proxy is not None:
            through = httpx.Proxy(proxy)
            password = {} if through.auth is None else {"proxy-authorization": basic(*through.auth)}
            self._proxy = {"proxy": str(through.url)}
            if context is None:  # the proxy gets each request
                self._password_of_proxy = password
            else:  # the proxy gets the request to connect, and no other
                self._proxy["proxy_headers"] = password
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: httpx.Timeout
    ) -> HttpAnswer:
        """Send one request and read its complete answer."""
        if self._session is None:
            self._session = _open_session(self._context, is_fresh=self._is_fresh)
        limits = aiohttp.ClientTimeout(sock_connect=timeout.connect, sock_read=timeout.read, connect=timeout.pool)
        with corrected_errors():
            async with self._session.request(
                method,
                _normalized(url),
                headers={**headers, **self._password_of_proxy} if self._password_of_proxy else headers,
                data=content,
                timeout=limits,
                allow_redirects=False,
                auto_decompress=False,
                **self._proxy,
            ) as answer:
                body = await _body_of(answer)
                if 200 <= answer.status < 300:
                    return Accepted(answer.status, answer.headers, body)
                return httpx.Response(
                    answer.status,
                    # The body is decompressed and complete, so headers about its encoding no longer apply.
                    headers=[each for each in answer.raw_headers if each[0].lower() not in _PACKING_HEADERS],
                    content=body,
                    request=httpx.Request(method, url, headers=headers, content=content),
                )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


async def _body_of(answer: aiohttp.ClientResponse) -> bytes:
    parts: AsyncIterator[bytes] = answer.content.iter_any()
    if "content-encoding" in answer.headers:
        # Small pieces: each may become a thousand times as long before its length is checked.
        parts = answer.content.iter_chunked(PACKED_PIECE_BYTES)
        parts = httpx.Response(answer.status, headers=answer.raw_headers, stream=_Packed(parts)).aiter_bytes()
    body = bytearray()
    async for part in parts:
        body += part
        if len(body) > LONGEST_BODY_BYTES:
            raise CutAnswer(f"its body is longer than {shown_size(LONGEST_BODY_BYTES)}")
    return bytes(body)


class _Packed(httpx.AsyncByteStream):
    """A body for httpx to decompress."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            yield part


_HEADERS = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "gzip, deflate"}
_PACKING_HEADERS = {b"content-encoding", b"transfer-encoding", b"content-length"}


@lru_cache(maxsize=64)
def _normalized(url: str) -> str:
    return str(httpx.URL(url))


def call_timeout(slot: SlotConfig, read_seconds: float) -> httpx.Timeout:
    """The timeouts of one call, in seconds; the name lookup has its own limit."""
    return httpx.Timeout(read_seconds, connect=slot.connect_timeout, pool=slot.connect_timeout + NAME_LOOKUP_SECONDS)


@lru_cache(maxsize=4)
def tls_context(ca_file: str | None, setting: str) -> ssl.SSLContext:
    """A TLS context of `read_certificates`, which is read once."""
    return read_certificates(ca_file, setting)


def read_certificates(ca_file: str | None = None, setting: str = "ca_file") -> ssl.SSLContext:
    """A TLS context that trusts `ca_file`, or what httpx trusts by default (`SSL_CERT_FILE`, `SSL_CERT_DIR`).

    Certificates are always verified; a router's self-signed certificate is trusted if `ca_file` names it. Raises a
    `SettingsError` that names `setting`, or the variable of the default.
    """
    try:
        return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # SSLError is one
        reason = "it contains no certificate in PEM format" if isinstance(error, ssl.SSLError) else error.strerror
        where = f"SSL_CERT_FILE: {os.environ.get('SSL_CERT_FILE')}" if ca_file is None else f"{setting}: {ca_file}"
        raise SettingsError(f"{where} cannot be used: {reason}") from None


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


def _open_session(context: ssl.SSLContext | None, *, is_fresh: bool) -> aiohttp.ClientSession:
    connector = CleanConnector(
        resolver=NameLookup(),
        socket_factory=keepalive_socket,
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


# The tests replace it by httpx's own transport.
_sender: Callable[..., Sender] = AiohttpSender


async def get(http: Http, slot: SlotConfig, path: str, seconds: float) -> HttpAnswer:
    """One GET request to a slot's server, without a completion. Raises what `Http.exchange` and `auth_headers` raise."""
    timeout = call_timeout(slot, seconds)
    return await http.exchange("GET", endpoint(slot, path), auth_headers(slot), timeout)


@contextmanager
def corrected_errors() -> Iterator[None]:
    """Replace errors of aiohttp by httpx's. Which document becomes a suspect depends on the difference between them."""
    try:
        yield
    except aiohttp.ClientError as error:
        accurate = _accurate(error)
        if accurate is None:  # the answer is not HTTP
            raise httpx.RemoteProtocolError(f"the server's answer is not HTTP: {type(error).__name__}") from error
        raise accurate(str(error) or type(error).__name__) from error


def corrected_error(error: httpx.TransportError) -> httpx.TransportError:
    """The httpx error that matches aiohttp's error; `error` itself if it already does.

    For errors of people's own clients: httpx-aiohttp reports a refused connection, a failed name lookup and a server that
    disconnects before it answers all as `ConnectTimeout`.
    """
    cause = error.__cause__
    accurate = _accurate(cause)
    return error if accurate in (None, type(error)) else accurate(str(cause) or type(cause).__name__)


def _accurate(error: BaseException | None) -> type[httpx.TransportError] | None:
    """The kind of httpx error that matches an error of aiohttp; None if there is none."""
    return next((accurate for kind, accurate in _ACCURATE if isinstance(error, kind)), None)


_ACCURATE: tuple[tuple[type[aiohttp.ClientError], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # refused, no such host, no route, TLS
    (UnsolicitedAnswer, httpx.ConnectError),  # no request was sent
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionResetError, httpx.WriteError),
    (aiohttp.ClientOSError, httpx.ReadError),  # reset, or the host vanished, after connecting
    (aiohttp.ClientPayloadError, httpx.ReadError),  # the connection ended within the body
    (aiohttp.ClientConnectionError, httpx.NetworkError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
)


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
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
    except UnicodeError as error:  # a part of the name is empty, or longer than DNS allows
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
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
