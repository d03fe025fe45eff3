"""The ASGI middleware in front of Dagster's app: reads the facts of a request, asks `rules.py`, and acts.

It passes requests on unchanged and adds security headers to the responses. Its state is the log-in's
queue and the password and token that are in force.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.followed import FollowedAccess
from dagster_offload.service.ui.login import Login
from dagster_offload.service.ui.rules import Decision, Facts, Then, decide

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: browsers would then send `Origin: null` with forms of our own pages.
    "Referrer-Policy": "same-origin",
}
MAX_CHALLENGE = 100
# Added to Dagster's own policy, not in its place: a browser applies both.
FRAME_POLICY = "frame-ancestors 'self'"


class AccessControl:
    """Wraps Dagster's app."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._followed = FollowedAccess(access)
        self._login = Login(self._followed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, one WebSocket or the lifespan of the app."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        facts, access = facts_of(scope), self._followed.now()
        decision = decide(facts, access, time.time())
        if scope["type"] == "websocket":
            if decision.then is Then.PASS:
                await self._app(scope, receive, self._while_in_force(access, send))
            else:
                await _refuse_websocket(scope, receive, send, decision)
            return
        send = _with_security_headers(send)
        if decision.then is Then.PASS:
            await self._app(scope, receive, send)
            return
        response = await self._response(decision, facts, access, Request(scope, receive))
        await response(scope, receive, send)

    def _while_in_force(self, access: Access, send: Send) -> Send:
        """Pass messages of a WebSocket on, and close it in place of the first one after a change of the access."""
        is_closed = False

        async def send_or_close(message: Message) -> None:
            nonlocal is_closed
            if is_closed:
                return
            if message["type"] == "websocket.send" and self._followed.now() is not access:
                is_closed = True
                message = {
                    "type": "websocket.close",
                    "code": 1008,
                    "reason": "the password or the token of the UI has changed",
                }
            await send(message)

        return send_or_close

    async def _response(self, decision: Decision, facts: Facts, access: Access, request: Request) -> Response:
        match decision.then:
            case Then.ANSWER_HEALTH:
                return PlainTextResponse(access.sessions.prove(request.url.query[:MAX_CHALLENGE]))
            case Then.ADD_SLASH:  # relative, because only the proxy knows the scheme and the host
                return RedirectResponse(f"{access.prefix}/")
            case Then.LOG_IN:
                return await self._login.answer(request)
            case Then.ASK if facts.is_for_page():
                return self._login.page(decision.status)
            case _:
                return PlainTextResponse(f"{decision.message}\n", decision.status)


def facts_of(scope: Scope) -> Facts:
    """The facts of an ASGI request."""
    headers: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for name, value in scope["headers"]:
        headers[name.decode("latin-1").lower()] += (value.decode("latin-1"),)
    client = scope.get("client")
    return Facts(
        method=scope.get("method", "GET"),
        path=scope["path"],
        is_websocket=scope["type"] == "websocket",
        peer="" if client is None else client[0],
        headers=dict(headers),
    )


def _with_security_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(SECURITY_HEADERS)
            headers.append("Content-Security-Policy", FRAME_POLICY)
        await send(message)

    return send_with_headers


async def _refuse_websocket(scope: Scope, receive: Receive, send: Send, decision: Decision) -> None:
    await receive()  # `websocket.connect`
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": "refused"})  # the server answers 403
        return
    body = decision.message.encode()
    await send(
        {
            "type": "websocket.http.response.start",
            "status": decision.status,
            "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "websocket.http.response.body", "body": body})
