"""Whether the UI is in use: an open page keeps a WebSocket open, and asks again every few seconds."""

import time
from collections.abc import Callable, Collection

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send


class InUse:
    """Wraps an app, and counts its open requests and WebSockets, but not those of the `uncounted` paths: of a health check."""

    def __init__(self, app: ASGIApp, uncounted: Collection[str], now: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._uncounted = uncounted
        self._now = now
        self._open = 0
        self._last_used_at = now()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, one WebSocket or the lifespan of the app."""
        if scope["type"] == "lifespan" or scope["path"] in self._uncounted:
            await self._app(scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1
            self._last_used_at = self._now()

    @property
    def unused_seconds(self) -> float:
        """Seconds since the last request ended; 0 while one is open."""
        return 0.0 if self._open else self._now() - self._last_used_at


class ServerWhileUsed(uvicorn.Server):
    """A server that ends when the app was not used for so many seconds."""

    def __init__(self, config: uvicorn.Config, use: InUse, most_unused_seconds: float) -> None:
        super().__init__(config)
        self._use = use
        self._most_unused_seconds = most_unused_seconds

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now. uvicorn asks every 0.1 s."""
        return await super().on_tick(counter) or self._use.unused_seconds >= self._most_unused_seconds
