"""The decision about one request to the UI: pass it on, refuse it, or ask for a log-in. Pure.

Dagster's server has no log-in and no check of its own. Its GraphQL endpoint also executes a mutation from the query of a
GET request, or of a POST request that any web page may send. So the rules are, in this order:

1. A connection comes from the proxy, if one is named and nothing else asks for a log-in.
2. The host is a name of this UI (DNS rebinding).
3. A page of another site may only link to a page. It sends nothing that changes something and opens no WebSocket.
4. What changes something is a POST of JSON. A page of another site cannot send that without a permission that is never
   given (Fetch Standard, CORS preflight), so this rule protects browsers that send no `Origin`.
5. The browser is logged in, if a log-in is on.
"""

import hmac
import re
from dataclasses import dataclass
from enum import Enum, auto
from http import HTTPStatus

from dagster_offload.service.ui.access import LOGIN_PATH, Access
from dagster_offload.service.ui.origins import HostPort, is_our_name, is_same_site, parse_host

SAFE_METHODS = frozenset({"GET", "HEAD"})
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Facts:
    """One request. Headers have all their values, because some servers read the first of two and some the last."""

    method: str  # GET for a WebSocket
    path: str  # decoded, with the prefix
    is_websocket: bool
    peer: str  # IP address
    headers: dict[str, tuple[str, ...]]  # by name in lower case

    def all(self, name: str) -> tuple[str, ...]:
        """All values of a header."""
        return self.headers.get(name, ())

    def is_for_page(self) -> bool:
        """Whether a browser asks for a page that it will show, as far as the headers say."""
        return self.method == "GET" and _all_contain(self.all("accept"), "text/html")


class Then(Enum):
    """What to do with a request."""

    PASS = auto()  # to Dagster
    ANSWER_HEALTH = auto()
    LOG_IN = auto()  # a request to the log-in page itself
    ADD_SLASH = auto()  # the prefix without its slash
    ASK = auto()  # no session: show the log-in
    REFUSE = auto()


@dataclass(frozen=True)
class Decision:
    """`status` and `message` are for REFUSE and ASK. The message is plain text for a person."""

    then: Then
    status: HTTPStatus = HTTPStatus.OK
    message: str = ""


def decide(facts: Facts, access: Access, now: float) -> Decision:
    """Decide about a request at `now` (seconds since 1970)."""
    if facts.path in access.health_paths and facts.method in SAFE_METHODS and not facts.is_websocket:
        return Decision(Then.ANSWER_HEALTH)  # without content, for `up`, containers and proxies
    refusal = _refuse_peer_or_host(facts, access) or _refuse_other_site(facts, access) or _refuse_form(facts, access)
    if refusal is not None:
        return Decision(Then.REFUSE, *refusal)
    if not facts.is_websocket and access.prefix and facts.path in ("/", access.prefix):
        return Decision(Then.ADD_SLASH)
    if access.needs_login:
        if facts.path == access.prefix + LOGIN_PATH and not facts.is_websocket:
            return Decision(Then.LOG_IN)
        if not _is_logged_in(facts, access, now):
            return Decision(Then.ASK, HTTPStatus.UNAUTHORIZED, NOT_LOGGED_IN)
    return Decision(Then.PASS)


NOT_LOGGED_IN = "Log in first: open the address that `dagster-offload status` prints, or the UI's first page."

_Refusal = tuple[HTTPStatus, str]


def _refuse_peer_or_host(facts: Facts, access: Access) -> _Refusal | None:
    if not access.is_peer(facts.peer):
        return HTTPStatus.FORBIDDEN, (
            "This UI accepts connections only from its reverse proxy. If the proxy connects from this address, add it to "
            "OFFLOAD_UI_PROXY_ADDRESS."
        )
    host = _host(facts)
    if host is None:
        return HTTPStatus.BAD_REQUEST, "The request needs one valid Host header."
    if not is_our_name(host, access.names):
        return HTTPStatus.FORBIDDEN, (
            f"{host.name} is not a name of this UI. If it should be, add it to OFFLOAD_UI_HOST_NAMES, or name the reverse "
            "proxy in OFFLOAD_UI_PROXY, and restart `dagster-offload up`."
        )
    # Starlette's patterns also match a path with a line break at its end, which would bypass a check of the path.
    if _CONTROL_CHARACTER.search(facts.path) or ".." in facts.path.split("/"):
        return HTTPStatus.BAD_REQUEST, "The path has a `..` or a control character."
    return None


def _refuse_other_site(facts: Facts, access: Access) -> _Refusal | None:
    host = _host(facts)
    # With a link to a page, browsers send no Origin.
    if host is None or not all(is_same_site(origin, host, access.proxy) for origin in facts.all("origin")):
        return HTTPStatus.FORBIDDEN, (
            "This request comes from a page of another site (its Origin header is not this UI's). If a reverse proxy serves "
            "the UI under that name, set OFFLOAD_UI_PROXY to its address."
        )
    # Sent by every current browser, for WebSockets by some (Fetch Metadata Request Headers, W3C).
    is_elsewhere = not set(facts.all("sec-fetch-site")) <= {"same-origin", "none"}
    is_page = facts.all("sec-fetch-mode") == ("navigate",) and facts.all("sec-fetch-dest") == ("document",)
    is_link = is_page and facts.method in SAFE_METHODS and not facts.is_websocket
    if is_elsewhere and not is_link:
        return HTTPStatus.FORBIDDEN, "This request comes from a page of another site (Sec-Fetch-Site header)."
    return None


def _refuse_form(facts: Facts, access: Access) -> _Refusal | None:
    if facts.is_websocket:
        return None
    if facts.path.endswith("/graphql") and facts.method in SAFE_METHODS and not facts.is_for_page():
        return (
            HTTPStatus.METHOD_NOT_ALLOWED,
            "GraphQL by GET is off, because an image on any web page can send it: use POST.",
        )
    if facts.method in SAFE_METHODS or facts.path == access.prefix + LOGIN_PATH:
        return None
    types = [value.partition(";")[0].strip().lower() for value in facts.all("content-type")]
    if types != ["application/json"]:
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, (
            "This request must have the header `Content-Type: application/json`, which a form on another web page cannot set."
        )
    return None


def _is_logged_in(facts: Facts, access: Access, now: float) -> bool:
    if access.sessions.is_valid(";".join(facts.all("cookie")), now):
        return True
    return any(
        scheme.lower() == "bearer" and is_token(access, given.strip())
        for scheme, _, given in (value.partition(" ") for value in facts.all("authorization"))
    )


def is_token(access: Access, given: str) -> bool:
    """Whether `given` is the token, compared in constant time. False if no token is used."""
    return access.token is not None and hmac.compare_digest(given.encode(), access.token.encode())


def _host(facts: Facts) -> HostPort | None:
    values = facts.all("host")
    return parse_host(values[0]) if len(values) == 1 else None


def _all_contain(values: tuple[str, ...], wanted: str) -> bool:
    return bool(values) and all(wanted in value for value in values)
