"""Faults below HTTP: an answer whose connection just ends.

uvicorn has no way to ask for one, so its transports are kept in reach.
"""

import asyncio
from typing import Any, ClassVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol


class ConnectionHolder(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with its transports in reach: some faults are a connection that just ends."""

    # One table for the process, by both ends of the connection.
    transports: ClassVar[dict[tuple[Any, Any], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transports[self.server, self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.pop((self.server, self.client), None)
        super().connection_lost(exc)


class BrokenAnswer(Response):
    """An answer whose connection ends: after `sent` of the announced bytes, or before anything (`sent` None)."""

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
            transport.close()  # flushes what was sent, then FIN
        while (await receive())["type"] != "http.disconnect":
            pass
