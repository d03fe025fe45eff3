"""Faults below HTTP: an answer whose connection is closed.

uvicorn has no interface for this, so its transports are recorded here.
"""

import asyncio
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


class ConnectionHolder(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which also records its transports so that `BrokenAnswer` can close them."""

    # One table per process, keyed by the addresses of server and client.
    transports: ClassVar[dict[tuple[Any, Any], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transports[self.server, self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.pop((self.server, self.client), None)
        super().connection_lost(exc)


class BrokenAnswer(Response):
    """An answer whose connection is closed after `sent` of the announced bytes, or before any byte (`sent` is None)."""

    def __init__(self, content: bytes, sent: int | None) -> None:
        super().__init__(content, media_type="application/json")
        self._sent = sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._sent is not None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            part = bytes(self.body)[: self._sent]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        transport = ConnectionHolder.transports.get((scope["server"], scope["client"]))
        if transport is not None:
            transport.close()  # flushes the sent bytes, then closes
        while (await receive())["type"] != "http.disconnect":
            pass
