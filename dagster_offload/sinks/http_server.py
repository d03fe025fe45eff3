"""Requests to the server of a sink or a channel. Its answers are not trusted: their size and their time are limited.

Each request has a connection of its own. On a kept connection, bytes that follow an answer would be read as the answer
about the next document.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from dagster_offload.client.transport import read_certificates
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.sinks.faults import Blame, SinkFault, http_faults
from dagster_offload.slot.addresses import USER_AGENT
from dagster_offload.text.sizes import shown_size

MAX_ANSWER_BYTES = 16 * 1024 * 1024
BODY_SECONDS = 1.0  # for the body of an answer whose status says all
# They describe the bytes that were sent, and the body of a `Response` made here is decoded already.
_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in daemon threads: at its end a loop waits for those of its executor, beyond the limit of the request."""

    async def getaddrinfo(self, *args: Any, **options: Any) -> Any:
        return await asyncio.wrap_future(start_in_daemon_thread(socket.getaddrinfo, *args, **options))


class HttpServer:
    """A server that is sent requests, one at a time. Redirects are not followed."""

    def __init__(self, headers: Mapping[str, str], timeout: float, *, cuts_answers: bool = False) -> None:
        """`timeout`: seconds for one request, from the connection to the last byte of the answer.

        `cuts_answers`: the status of an answer says all, so its body is read up to the limit and for a second, and may break
        off. Without it, an answer that is longer or not complete is a fault.
        """
        self._headers = {"user-agent": USER_AGENT, "accept-encoding": "identity", **headers}
        self._timeout = timeout
        self._cuts_answers = cuts_answers
        self._tls: ssl.SSLContext | None = None  # kept, because reading the certificates takes longer than a request

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Send a request, and return the answer with its body. Raises `SinkFault`. `options` are those of httpx."""
        with http_faults(), asyncio.Runner(loop_factory=_Loop) as runner:
            # An address without TLS needs no certificates: those of the environment may be gone.
            needed = urlsplit(url).scheme == "https"
            tls = (self._tls or read_certificates()) if needed else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls = None  # after a fault they are read again: the file may have been replaced
            answer = runner.run(self._request(method, url, options, tls))
            self._tls = tls if needed else None
        return answer

    async def _request(self, method: str, url: str, options: Mapping[str, Any], tls: ssl.SSLContext) -> httpx.Response:
        answer: httpx.Response | None = None
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout) as limit,
                httpx.AsyncClient(headers=self._headers, timeout=None, verify=tls) as client,  # noqa: S113 - the limit is above
                client.stream(method, url, **options) as answer,
            ):
                if self._cuts_answers:
                    limit.reschedule(asyncio.get_running_loop().time() + BODY_SECONDS)
                await self._read(answer, body)
        except (TimeoutError, httpx.HTTPError) as error:
            # With the status, the server has decided. A fault would send it the same record for ever.
            if answer is None or not self._cuts_answers:
                if isinstance(error, TimeoutError):
                    reason = f"no complete answer within {self._timeout:g} s"
                    raise SinkFault(Blame.UNAVAILABLE, reason, may_be_of_record=True) from None
                raise
        kept = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_THE_TRANSFER]
        return httpx.Response(answer.status_code, headers=kept, content=bytes(body), request=answer.request)

    async def _read(self, answer: httpx.Response, body: bytearray) -> None:
        async for part in answer.aiter_bytes():
            body += part
            if len(body) <= MAX_ANSWER_BYTES:
                continue
            if self._cuts_answers:
                return
            limit = shown_size(MAX_ANSWER_BYTES)
            raise SinkFault(Blame.MISCONFIGURED, f"its answer is longer than {limit}: check its address")
