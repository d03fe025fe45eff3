"""The decision about a request, without a server."""

from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from dagster_offload.service.ui.access import LOOPBACK, Access
from dagster_offload.service.ui.origins import parse_origin
from dagster_offload.service.ui.rules import Facts, Then, decide
from dagster_offload.service.ui.sessions import SESSION_SECONDS, Sessions

SECRET, NOW, HOME = "t" * 43, 1_800_000_000.0, Path("/nonexistent")
JSON = {"content-type": ("application/json",)}
OPEN = Access(home=HOME, prefix="", names=frozenset({"localhost"}), sessions=Sessions(SECRET, None))
WITH_TOKEN = Access(home=HOME, prefix="", names=frozenset({"localhost"}), sessions=Sessions(SECRET, None), token=SECRET)
BEHIND_PROXY = Access(
    home=HOME,
    prefix="/offload",
    names=frozenset({"localhost", "docs.example.org"}),
    sessions=Sessions(SECRET, None),
    proxy=parse_origin("https://docs.example.org"),
    peers=LOOPBACK,
)


def facts(
    method: str = "GET", path: str = "/runs", *, websocket: bool = False, peer: str = "127.0.0.1", **headers: str
) -> Facts:
    """A request to localhost:3000. `sec_fetch_site="none"` is the header `Sec-Fetch-Site`."""
    given = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return Facts(method, path, websocket, peer, {"host": ("localhost:3000",), **given})


@pytest.mark.parametrize(
    "request_",
    [
        facts(),
        facts(accept="text/html", sec_fetch_site="none", sec_fetch_mode="navigate", sec_fetch_dest="document"),
        facts(path="/graphql", accept="text/html,*/*"),  # the page GraphiQL
        facts("POST", "/graphql", content_type="application/json"),  # a script
        facts("POST", "/graphql", content_type="application/json; charset=utf-8", sec_fetch_site="same-origin"),
        facts("POST", "/graphql", content_type="application/json", origin="http://localhost:3000"),
        facts(path="/graphql", websocket=True, origin="http://localhost:3000"),
        # A link on another site may open a page.
        facts(accept="text/html", sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document"),
    ],
)
def test_requests_of_dagsters_own_pages_and_of_scripts_pass(request_: Facts) -> None:
    assert decide(request_, OPEN, NOW).then is Then.PASS


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (facts(host="evil.com"), 403),
        (facts(host="localhost.evil.com"), 403),
        (facts(host=""), 400),
        (facts(origin="http://evil"), 403),
        (facts("POST", "/graphql", content_type="application/json", origin="http://evil"), 403),
        (facts("POST", "/graphql", content_type="application/json", origin="null"), 403),
        (facts("POST", "/graphql", content_type="application/json", origin="http://localhost:8080"), 403),
        (facts("POST", "/graphql", content_type="application/json", sec_fetch_site="cross-site"), 403),
        (facts("POST", "/graphql", content_type="application/json", sec_fetch_site="same-site"), 403),
        (facts("POST", "/graphql", content_type="text/plain"), 415),
        (facts("POST", "/graphql", content_type="text/plain; application/json"), 415),
        (facts("POST", "/graphql", content_type="application/x-www-form-urlencoded"), 415),
        (facts("POST", "/graphql"), 415),
        (facts("POST", "/report_asset_materialization/x", content_type="text/plain"), 415),
        (facts(path="/graphql"), 405),
        (facts(path="/graphql", accept="image/avif,image/webp,*/*"), 405),
        (facts("HEAD", "/graphql", accept="text/html"), 405),
        (facts(path="/graphql\n"), 400),
        (facts(path="/logs/../../etc/passwd"), 400),
        (facts(sec_fetch_site="cross-site", sec_fetch_mode="no-cors", sec_fetch_dest="image"), 403),
        (facts(sec_fetch_site="same-site", sec_fetch_mode="navigate", sec_fetch_dest="iframe"), 403),
        (facts(path="/graphql", websocket=True, origin="http://evil"), 403),
        (facts(path="/graphql", websocket=True, origin="null"), 403),
        (facts(path="/graphql", websocket=True, sec_fetch_site="cross-site"), 403),
        (facts("OPTIONS", "/graphql", origin="http://evil"), 403),
        (facts("DELETE", "/runs"), 415),
    ],
)
def test_requests_of_other_sites_and_forms_are_refused_with_a_plain_message(request_: Facts, status: int) -> None:
    decision = decide(request_, OPEN, NOW)
    assert (decision.then, decision.status) == (Then.REFUSE, status)
    assert decision.message.endswith(".")


@pytest.mark.parametrize("name", ["host", "content-type"])
def test_a_header_that_is_sent_twice_is_refused(name: str) -> None:
    once = Facts("POST", "/graphql", False, "127.0.0.1", {"host": ("localhost",), **JSON})
    twice = Facts(
        once.method, once.path, False, once.peer, {**once.headers, name: (once.headers[name][0], "text/plain")}
    )
    assert decide(once, OPEN, NOW).then is Then.PASS
    assert decide(twice, OPEN, NOW).then is Then.REFUSE


def test_without_a_session_nothing_but_the_log_in_and_the_health_check_is_answered() -> None:
    asked = [
        facts(),
        facts(path="/server_info"),
        facts(path="/static/js/main.js"),
        facts("POST", "/graphql", content_type="application/json"),
        facts(path="/graphql", websocket=True),
        facts(path="/login", websocket=True),
        facts(path="/logs/x.out"),
    ]
    for request_ in asked:
        decision = decide(request_, WITH_TOKEN, NOW)
        assert (decision.then, decision.status) == (Then.ASK, HTTPStatus.UNAUTHORIZED)
    assert decide(facts(path="/login"), WITH_TOKEN, NOW).then is Then.LOG_IN
    assert decide(facts(path="/healthz", host="10.0.0.1"), WITH_TOKEN, NOW).then is Then.ANSWER_HEALTH


@pytest.mark.parametrize("path", ["/healthz", "/offload/healthz"])
def test_the_health_check_is_answered_with_and_without_the_prefix(path: str) -> None:
    below_prefix = replace(WITH_TOKEN, prefix="/offload")
    assert decide(facts(path=path, host="10.0.0.1"), below_prefix, NOW).then is Then.ANSWER_HEALTH


def test_a_session_or_the_token_as_bearer_passes() -> None:
    name, value = WITH_TOKEN.sessions.cookie_name, WITH_TOKEN.sessions.issue(NOW)
    assert decide(facts(cookie=f"a=b; {name}={value}"), WITH_TOKEN, NOW).then is Then.PASS
    assert decide(facts(websocket=True, cookie=f"{name}={value}"), WITH_TOKEN, NOW).then is Then.PASS
    assert decide(facts(authorization=f"Bearer {SECRET}"), WITH_TOKEN, NOW).then is Then.PASS
    for wrong in (f"Bearer {SECRET}x", "Bearer", f"Basic {SECRET}", SECRET, "Bearer é"):
        assert decide(facts(authorization=wrong), WITH_TOKEN, NOW).then is Then.ASK


def test_a_cookie_of_the_same_name_from_another_port_neither_passes_nor_locks_out() -> None:
    name, value = WITH_TOKEN.sessions.cookie_name, WITH_TOKEN.sessions.issue(NOW)
    for wrong in ("", ".", "x", "9999999999.", "9999999999.abc", f"9{value}", f"{value}0", "é.é"):
        assert decide(facts(cookie=f"{name}={wrong}"), WITH_TOKEN, NOW).then is Then.ASK, wrong
        assert decide(facts(cookie=f"{name}={wrong}; {name}={value}"), WITH_TOKEN, NOW).then is Then.PASS, wrong


def test_a_session_ends_after_its_time_and_with_a_new_secret_or_password() -> None:
    name, value = WITH_TOKEN.sessions.cookie_name, WITH_TOKEN.sessions.issue(NOW)
    cookie = f"{name}={value}"
    assert WITH_TOKEN.sessions.is_valid(cookie, NOW + SESSION_SECONDS - 1)
    assert not WITH_TOKEN.sessions.is_valid(cookie, NOW + SESSION_SECONDS)
    assert not Sessions(SECRET, "scrypt:new").is_valid(cookie, NOW)
    other = Sessions("o" * 43, None)
    assert not other.is_valid(f"{other.cookie_name}={value}", NOW)


def test_without_a_log_in_the_login_page_is_dagsters() -> None:
    assert decide(facts(path="/login"), OPEN, NOW).then is Then.PASS


def test_behind_a_proxy_only_its_connections_and_names_are_accepted() -> None:
    assert decide(facts(path="/offload/runs", host="docs.example.org"), BEHIND_PROXY, NOW).then is Then.PASS
    change = facts("POST", "/offload/graphql", content_type="application/json", origin="https://docs.example.org")
    assert decide(change, BEHIND_PROXY, NOW).then is Then.PASS
    for peer in ("192.168.1.7", "::ffff:192.168.1.7", "2001:db8::7", "", "unix"):
        assert decide(facts(path="/offload/runs", peer=peer), BEHIND_PROXY, NOW).status == 403, peer
    for peer in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
        assert decide(facts(path="/offload/runs", peer=peer), BEHIND_PROXY, NOW).then is Then.PASS, peer
    assert decide(facts(host="evil.example.org"), BEHIND_PROXY, NOW).then is Then.REFUSE


def test_the_prefix_without_its_slash_leads_to_the_first_page() -> None:
    assert decide(facts(path="/offload"), BEHIND_PROXY, NOW).then is Then.ADD_SLASH
    assert decide(facts(path="/"), BEHIND_PROXY, NOW).then is Then.ADD_SLASH
    assert decide(facts(path="/offload/graphql"), BEHIND_PROXY, NOW).status == 405
    for outside in ("/offload/../graphql", "/offload/..", "/../offload/runs"):
        assert decide(facts(path=outside), BEHIND_PROXY, NOW).status == 400, outside
