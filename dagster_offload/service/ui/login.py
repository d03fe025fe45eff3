"""The log-in: takes the token from an address, or a token or a password from a form, and starts a session.

A form is checked one at a time, with a pause after each wrong one, so that guessing is slow from any number of
connections.
"""

import asyncio
import html
import time
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from dagster_offload import timing
from dagster_offload.service.ui.access import LOGIN_PATH, Access
from dagster_offload.service.ui.followed import FollowedAccess
from dagster_offload.service.ui.passwords import is_password
from dagster_offload.service.ui.rules import is_token
from dagster_offload.service.ui.sessions import SESSION_SECONDS

MAX_WAITING = 20  # log-ins that wait for their turn
MAX_FORM_BYTES = 8192
FIELD = "secret"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dagster-offload: log in</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 26em; margin: 15vh auto; padding: 0 1em; }}
input, button {{ font: inherit; padding: 0.4em 0.6em; }}
.wrong {{ color: #b00020; }}
</style>
</head>
<body>
<h1>dagster-offload</h1>
<p class="wrong">{message}</p>
<form method="post" action="{action}">
<p><label>{label}<br><input type="password" name="{field}" autocomplete="current-password" autofocus required></label>
<button>Log in</button></p>
</form>
<p>{hint}</p>
<p><a href="{first_page}">I am already logged in</a></p>
</body>
</html>
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'"
_WHERE_IT_IS = "On the machine that runs it, <code>dagster-offload status</code> prints an address that logs you in."


class Login:
    """Answers the requests to the log-in page."""

    def __init__(self, followed: FollowedAccess) -> None:
        self._followed = followed
        self._turn = asyncio.Lock()
        self._waiting = 0

    # Browsers send no session with a link on another site (SameSite=Strict), but with the link on this page.
    def page(self, status: HTTPStatus, message: str = "") -> Response:
        """The page with the form."""
        access = self._followed.now()
        label = " or ".join(
            name for name, value in (("Password", access.password), ("Token", access.token)) if value is not None
        )
        content = _PAGE.format(
            message=html.escape(message),
            action=access.prefix + LOGIN_PATH,
            label=label,
            field=FIELD,
            first_page=f"{access.prefix}/",
            hint="" if access.token is None else _WHERE_IT_IS,
        )
        return HTMLResponse(content, status, {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})

    async def answer(self, request: Request) -> Response:
        """Answer a request to the log-in page. The rules have refused every request from another site."""
        if request.method == "POST":
            return await self._answer_form(request)
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Log in with GET or POST.", HTTPStatus.METHOD_NOT_ALLOWED)
        token = request.query_params.get("token")
        if token is None:
            return self.page(HTTPStatus.OK)
        access = self._followed.now()
        if is_token(access, token):
            return _start_session(access)
        return self.page(HTTPStatus.UNAUTHORIZED, "This token is not valid.")

    async def _answer_form(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                return PlainTextResponse("The form is too large.", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        given = parse_qs(body.decode("ascii", errors="replace")).get(FIELD, [""])[0]
        if self._waiting >= MAX_WAITING:
            return self.page(HTTPStatus.TOO_MANY_REQUESTS, "Too many people are logging in. Try again in a minute.")
        self._waiting += 1
        try:
            async with self._turn:
                access = self._followed.now()  # one for both: a password that changes meanwhile starts no session
                if await asyncio.to_thread(_is_correct, access, given):
                    return _start_session(access)
                await asyncio.sleep(timing.current().login_pause)
        finally:
            self._waiting -= 1
        return self.page(HTTPStatus.UNAUTHORIZED, "That is not correct.")


def _is_correct(access: Access, given: str) -> bool:
    return is_token(access, given) or (access.password is not None and is_password(access.password, given))


def _start_session(access: Access) -> Response:
    # Always to the first page: an address in the request could lead elsewhere.
    response = RedirectResponse(f"{access.prefix}/", HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
    response.set_cookie(
        access.sessions.cookie_name,
        access.sessions.issue(time.time()),
        max_age=SESSION_SECONDS,
        path=f"{access.prefix}/",
        secure=access.proxy is not None and access.proxy.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response
