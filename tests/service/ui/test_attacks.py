"""Attacks on a running UI over real sockets. Each one would change something in Dagster if it passed."""

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from dagster_offload.service.processes import _answers
from dagster_offload.service.ui.access import Access, decide_access, token_address
from dagster_offload.service.ui.middleware import AccessControl
from dagster_offload.service.ui.passwords import hash_password, write_password_file
from dagster_offload.settings import load_settings
from dagster_offload.testing import ChangeTiming
from tests.support.web import Answer, Headers, Web, mutation, send, serving, web

JSON = ("Content-Type", "application/json")
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PAGE = ("Accept", "text/html,application/xhtml+xml")
PASSWORD = "correct horse battery"


def access(home: Path, host: str = "127.0.0.1", **given: str) -> Access:
    home.mkdir(exist_ok=True)
    return decide_access(load_settings(home=home, **given).ui, home, host)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(scope="module")
def ui(homes: Path) -> Iterator[Web]:
    """A UI on loopback without a log-in."""
    with web(access(homes / "open")) as ui:
        yield ui


@pytest.fixture(scope="module")
def guarded(homes: Path) -> Access:
    file = homes / "password"
    write_password_file(file, hash_password(PASSWORD))
    return access(homes / "guarded", ui_token="on", ui_password_file=str(file), ui_path_prefix="/offload")


@pytest.fixture(scope="module")
def guarded_ui(guarded: Access) -> Iterator[Web]:
    """A UI with a token, a password and a path prefix."""
    with web(guarded) as ui:
        yield ui


def post(ui: Web, asset: str, *headers: tuple[str, str], path: str = "/graphql") -> Answer:
    return ui.send("POST", path, (JSON, *headers), json.dumps({"query": mutation(asset)}))


def test_a_page_of_this_ui_and_a_script_can_change_something(ui: Web) -> None:
    assert post(ui, "script").status == 200
    own = (("Origin", f"http://localhost:{ui.port}"), ("Sec-Fetch-Site", "same-origin"))
    assert post(ui, "page", *own).status == 200
    assert (
        post(ui, "address", ("Host", f"127.0.0.1:{ui.port}"), ("Origin", f"http://127.0.0.1:{ui.port}")).status == 200
    )
    assert post(ui, "upper", ("Host", f"LOCALHOST.:{ui.port}"), ("Origin", f"http://localhost:{ui.port}")).status == 200
    assert {"script", "page", "address", "upper"} <= ui.assets()


QUERY = urlencode({"query": mutation("attack")})
BODY = json.dumps({"query": mutation("attack")})
EVIL = ("Origin", "http://evil")


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        # DNS rebinding: a page of evil.com, whose name now resolves to this machine. Its requests are same-origin.
        ("POST", "/graphql", (JSON, ("Host", "evil.com"), ("Origin", "http://evil.com")), BODY, 403),
        ("POST", "/graphql", (JSON, ("Host", "localhost.evil.com")), BODY, 403),
        ("GET", "/runs", (PAGE, ("Host", "evil.com:3000")), "", 403),
        ("POST", "/graphql", (JSON, ("Host", "localhost"), ("Host", "evil.com")), BODY, 400),
        ("POST", "/graphql", (JSON, ("Host", "evil.com"), ("Host", "localhost")), BODY, 400),
        ("POST", "http://localhost/graphql", (JSON, ("Host", "evil.com")), BODY, 403),
        # A page of another site.
        ("POST", "/graphql", (JSON, EVIL), BODY, 403),
        ("POST", "/graphql", (JSON, ("Origin", "null")), BODY, 403),
        ("POST", "/graphql", (JSON, ("Origin", "http://localhost:1")), BODY, 403),
        ("POST", "/graphql", (JSON, ("Sec-Fetch-Site", "cross-site")), BODY, 403),
        ("POST", "/graphql", (JSON, ("Sec-Fetch-Site", "same-site")), BODY, 403),
        ("OPTIONS", "/graphql", (EVIL, ("Access-Control-Request-Method", "POST")), "", 403),
        # Forms, which browsers send without asking: with and without the headers of current browsers.
        ("POST", f"/graphql?{QUERY}", (("Content-Type", "text/plain"), EVIL), "", 403),
        ("POST", f"/graphql?{QUERY}", (("Content-Type", "text/plain"),), "", 415),
        ("POST", f"/graphql?{QUERY}", (FORM,), "", 415),
        ("POST", f"/graphql?{QUERY}", (), "", 415),
        ("POST", "/graphql", (("Content-Type", "text/plain; application/json"),), BODY, 415),
        ("POST", "/graphql", (("Content-Type", "application/graphql"),), mutation("attack"), 415),
        ("POST", "/report_asset_materialization/attack", (("Content-Type", "text/plain"),), "", 415),
        ("POST", "/report_asset_materialization/attack", (), "", 415),
        # <img src>, and other requests by GET.
        ("GET", f"/graphql?{QUERY}", (("Accept", "image/webp,*/*"), ("Sec-Fetch-Site", "cross-site")), "", 403),
        ("GET", f"/graphql?{QUERY}", (("Accept", "image/webp,*/*"),), "", 405),
        ("GET", f"/graphql?{QUERY}", (), "", 405),
        ("GET", f"/graphql%0A?{QUERY}", (), "", 400),  # Dagster's router would accept it
        ("GET", f"/%67raphql?{QUERY}", (), "", 405),
        ("GET", f"http://evil.com/graphql?{QUERY}", (), "", 405),
        ("HEAD", f"/graphql?{QUERY}", (PAGE,), "", 405),
        ("GET", f"/graphql?{QUERY}", (("Accept", "*/*"), PAGE), "", 405),
        ("GET", "/logs/..%2f..%2f..%2fetc/passwd", (), "", 400),
        ("GET", "/logs/%2e%2e/%2e%2e/etc/passwd", (), "", 400),
    ],
)
def test_an_attack_changes_nothing(ui: Web, method: str, target: str, headers: Headers, body: str, status: int) -> None:
    answer = ui.send(method, target, headers, body)
    assert answer.status == status
    assert "attack" not in ui.assets()
    assert "access-control-allow-origin" not in answer.headers
    if method != "HEAD":
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.body.endswith(".\n")


def test_graphiql_with_a_mutation_in_its_address_only_shows_a_page(ui: Web) -> None:
    assert "GraphiQL" in ui.send("GET", f"/graphql?{QUERY}", (PAGE,)).body
    assert "attack" not in ui.assets()


RUN_LOGS = 'subscription { pipelineRunLogs(runId: "none") { __typename } }'


def subscribe(ui: Web, path: str = "/graphql", **headers: str) -> str:
    """Open a subscription as Dagster's pages do. Returns the type of the first event. Raises `InvalidStatus`."""
    origin = Origin(headers.pop("origin")) if "origin" in headers else None
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    uri = f"ws://localhost:{ui.port}{path}"
    protocol = Subprotocol("graphql-ws")
    with connect(
        uri, origin=origin, additional_headers=given, subprotocols=[protocol], proxy=None, open_timeout=60
    ) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket.recv())["type"] == "connection_ack"
        socket.send(json.dumps({"type": "start", "id": "1", "payload": {"query": RUN_LOGS}}))
        payload = json.loads(socket.recv())["payload"]
        kind: str = payload["data"]["pipelineRunLogs"]["__typename"]
        return kind


def test_a_subscription_of_our_own_page_works(ui: Web) -> None:
    assert subscribe(ui, origin=f"http://localhost:{ui.port}") == "PipelineRunLogsSubscriptionFailure"
    assert subscribe(ui) == "PipelineRunLogsSubscriptionFailure"  # a script


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil"},
        {"origin": "null"},
        {"origin": "http://localhost:1"},
        {"sec_fetch_site": "cross-site"},
        {"host": "evil.com"},
    ],
)
def test_a_websocket_of_another_site_is_refused_before_it_opens(ui: Web, headers: dict[str, str]) -> None:
    if "host" in headers:  # the client library sets its own
        upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"))
        key = ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        assert ui.send("GET", "/graphql", (*upgrade, key, ("Host", "evil.com"))).status == 403
        return
    with pytest.raises(InvalidStatus) as refused:
        subscribe(ui, **headers)
    assert refused.value.response.status_code == 403
    assert b"another site" in (refused.value.response.body or b"")


def test_every_answer_has_security_headers_and_dagsters_pages_keep_their_own(ui: Web) -> None:
    page = ui.send("GET", "/", (PAGE,))
    [script] = re.findall(r'src="(/assets/[^"]+\.js|/_next/[^"]+\.js|/static/[^"]+\.js)"', page.body)[:1]
    for answer in (page, ui.send("GET", script), ui.send("GET", "/healthz"), ui.send("GET", "/", (("Host", "evil"),))):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
    assert "script-src 'nonce-" in page.headers["content-security-policy"]
    assert "javascript" in ui.send("GET", script).headers["content-type"]


def cookie_of(answer: Answer) -> tuple[str, str]:
    assert answer.status == 303
    return ("Cookie", answer.headers["set-cookie"].partition(";")[0])


def log_in(ui: Web, secret: str, *headers: tuple[str, str]) -> Answer:
    return ui.send("POST", "/offload/login", (FORM, *headers), urlencode({"secret": secret}))


def test_without_a_session_no_page_file_query_or_websocket_is_answered(guarded_ui: Web) -> None:
    page = guarded_ui.send("GET", "/offload/runs", (PAGE,))
    assert page.status == 401
    assert '<form method="post" action="/offload/login">' in page.body
    assert '<a href="/offload/">' in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/offload/server_info", "/offload/favicon.png", "/graphql", "/offload/download_debug/x"):
        assert guarded_ui.send("GET", path, (("Accept", "text/html"),)).status in (401, 405), path
    assert guarded_ui.send("GET", "/offload/server_info").headers["content-type"].startswith("text/plain")
    assert post(guarded_ui, "attack", path="/offload/graphql").status == 401
    with pytest.raises(InvalidStatus) as refused:
        subscribe(guarded_ui, "/offload/graphql", origin=f"http://localhost:{guarded_ui.port}")
    assert refused.value.response.status_code == 401
    assert "attack" not in guarded_ui.assets()


def test_the_tokens_address_starts_a_session_that_opens_everything(guarded_ui: Web, guarded: Access) -> None:
    assert guarded.token is not None
    address = token_address("/offload", guarded.token)
    started = guarded_ui.send("GET", address, (PAGE,))
    cookie = cookie_of(started)
    assert started.headers["location"] == "/offload/"
    assert started.headers["cache-control"] == "no-store"
    flags = started.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    assert "path=/offload/" in flags
    assert guarded.token not in flags
    assert guarded_ui.send("GET", "/offload/", (PAGE, cookie)).status == 200
    assert post(guarded_ui, "with_session", cookie, path="/offload/graphql").status == 200
    assert subscribe(guarded_ui, "/offload/graphql", cookie=cookie[1]) == "PipelineRunLogsSubscriptionFailure"
    assert "with_session" in guarded_ui.assets()
    # A session does not help a page of another site.
    assert post(guarded_ui, "attack", cookie, EVIL, path="/offload/graphql").status == 403
    assert "attack" not in guarded_ui.assets()


@pytest.mark.parametrize("token", ["", "x", "%00", "%C3%A9", "%ED%A0%80"])
def test_a_wrong_token_starts_no_session(guarded_ui: Web, token: str) -> None:
    answer = guarded_ui.send("GET", f"/offload/login?token={token}", (PAGE,))
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert guarded_ui.send("GET", f"/offload/?token={token}", (PAGE,)).status == 401


def test_the_password_or_the_token_in_the_form_starts_a_session(guarded_ui: Web, guarded: Access) -> None:
    for secret in (PASSWORD, guarded.token or ""):
        assert guarded_ui.send("GET", "/offload/", (PAGE, cookie_of(log_in(guarded_ui, secret)))).status == 200


def test_a_wrong_password_starts_no_session_and_is_not_shown(guarded: Access, change_timing: ChangeTiming) -> None:
    change_timing(login_pause=0)
    with web(guarded) as ui:
        for wrong in ("wrong <b>guess</b>", "", PASSWORD + " ", "x" * 2000):
            answer = log_in(ui, wrong)
            assert answer.status == 401
            assert "set-cookie" not in answer.headers
            assert "guess" not in answer.body
        assert log_in(ui, "x" * 10_000).status == 413
        assert ui.send("POST", "/offload/login", (FORM,), "&".join(f"a{n}=1" for n in range(500))).status == 401


def test_another_site_cannot_log_a_browser_in(guarded_ui: Web) -> None:
    for header in (EVIL, ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")):
        assert log_in(guarded_ui, PASSWORD, header).status == 403


def test_guesses_wait_for_each_other_and_too_many_are_turned_away(guarded: Access, change_timing: ChangeTiming) -> None:
    change_timing(login_pause=3600)  # the first wrong guess holds the turn for the rest of the test
    statuses: list[int] = []
    refused = threading.Event()

    def guess() -> None:
        try:
            statuses.append(log_in(busy, "wrong guess").status)
        except OSError:  # the server stops while the guess waits
            return
        refused.set()

    with web(guarded) as busy:
        threads = [threading.Thread(target=guess, daemon=True) for _ in range(21)]
        for thread in threads:
            thread.start()
        assert refused.wait(60)
        assert statuses[0] == 429
        # A browser with a session is not affected.
        cookie = ("Cookie", f"{guarded.sessions.cookie_name}={guarded.sessions.issue(4_000_000_000)}")
        assert busy.send("GET", "/offload/", (PAGE, cookie)).status == 200


def test_a_session_of_another_home_on_another_port_is_refused(homes: Path, guarded: Access, guarded_ui: Web) -> None:
    other = access(homes / "other", ui_token="on")
    stolen = f"{other.sessions.cookie_name}={other.sessions.issue(4_000_000_000)}"
    renamed = f"{guarded.sessions.cookie_name}={other.sessions.issue(4_000_000_000)}"
    for cookie in (stolen, renamed):
        assert guarded_ui.send("GET", "/offload/", (PAGE, ("Cookie", cookie))).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/offload/../graphql",
        "/offload/%2e%2e/graphql",
        "/offload%2f..%2fserver_info",
        "/offloadx/server_info",
        "/server_info",
        "//evil.com/offload/",
        "/offload//evil.com",
        "/login",
    ],
)
def test_a_path_around_the_prefix_reaches_nothing(guarded_ui: Web, path: str) -> None:
    answer = guarded_ui.send("GET", path)
    assert answer.status in (400, 401, 405)
    assert "evil.com" not in answer.headers.get("location", "")
    assert "version" not in answer.body


def test_the_prefix_leads_to_the_first_page_without_naming_a_host(guarded_ui: Web) -> None:
    for path in ("/", "/offload"):
        answer = guarded_ui.send("GET", path, (("X-Forwarded-Host", "evil.com"),))
        assert (answer.status, answer.headers["location"]) == (307, "/offload/")


def test_the_health_check_needs_no_log_in_and_opens_nothing(guarded_ui: Web, guarded: Access) -> None:
    answer = guarded_ui.send("GET", "/offload/healthz", (("Host", "10.0.0.3"),))
    assert answer.status == 200
    # The signature of a challenge is no session.
    end = "4000000000"
    proof = guarded_ui.send("GET", f"/offload/healthz?{end}").body
    cookie = ("Cookie", f"{guarded.sessions.cookie_name}={end}.{proof}")
    assert guarded_ui.send("GET", "/offload/", (PAGE, cookie)).status == 401


def test_up_distinguishes_its_own_ui_from_another_server_on_the_port(ui: Web, guarded_ui: Web, guarded: Access) -> None:
    assert _answers(f"http://127.0.0.1:{guarded_ui.port}/offload", guarded.sessions)
    assert not _answers(f"http://127.0.0.1:{ui.port}/offload", guarded.sessions)
    assert not _answers(f"http://127.0.0.1:{ui.port}", guarded.sessions)


def test_a_peer_cannot_pretend_to_be_the_proxy(homes: Path) -> None:
    """Here the test's own address plays the stranger: the proxy is elsewhere."""
    proxy = access(homes / "proxy", ui_proxy="https://docs.example.org")
    stranger = replace(proxy, peers=())
    forwarded = (("Host", "docs.example.org"), ("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"))
    with web(proxy) as ui:
        assert ui.send("GET", "/server_info", forwarded).status == 200
        # `X-Forwarded-For` of a real proxy does not replace the proxy's own address.
        assert ui.send("GET", "/server_info", (("X-Forwarded-For", "203.0.113.9"),)).status == 200
    with web(stranger) as ui:
        assert ui.send("GET", "/server_info", forwarded).status == 403


async def unreachable(*_: object) -> None:
    raise AssertionError("the app was called")


def test_an_ipv6_address_is_served(homes: Path) -> None:
    try:
        with serving(AccessControl(unreachable, access(homes / "ipv6")), "::1") as port:
            host = ("Host", f"[0:0::1]:{port}")
            assert send(port, "GET", "/healthz", (host,), address="::1").status == 200
            assert send(port, "POST", "/graphql", (host, ("Origin", "http://[::2]")), address="::1").status == 403
            own = ("Origin", f"http://[::1]:{port}")
            assert send(port, "POST", "/graphql", (host, own), address="::1").status == 415
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
