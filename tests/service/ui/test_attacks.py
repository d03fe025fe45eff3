"""Attacks on a running UI over real sockets. Each one would change something in Dagster if it passed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest
from websockets.exceptions import InvalidStatus

from dagster_offload.service.processes import _answers
from dagster_offload.service.ui.access import Access
from dagster_offload.service.ui.middleware import AccessControl
from tests.support.ui_attacks import (
    EVIL,
    FORM,
    JSON,
    PAGE,
    access,
    post,
    subscribe,
)
from tests.support.web import Headers, Web, mutation, send, serving, web


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
