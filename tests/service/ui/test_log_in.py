"""The log-in of a running UI over real sockets: what starts a session, and what is answered without one."""

import threading
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from dagster_offload.service.ui.access import Access, token_address
from dagster_offload.testing import ChangeTiming
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ui_attacks import EVIL, FORM, PAGE, PASSWORD, access, cookie_of, log_in, post, subscribe
from tests.support.web import Web, web


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
        assert refused.wait(PATIENCE_SECONDS)
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


def test_the_health_check_needs_no_log_in_and_opens_nothing(guarded_ui: Web, guarded: Access) -> None:
    answer = guarded_ui.send("GET", "/offload/healthz", (("Host", "10.0.0.3"),))
    assert answer.status == 200
    # The signature of a challenge is no session.
    end = "4000000000"
    proof = guarded_ui.send("GET", f"/offload/healthz?{end}").body
    cookie = ("Cookie", f"{guarded.sessions.cookie_name}={end}.{proof}")
    assert guarded_ui.send("GET", "/offload/", (PAGE, cookie)).status == 401
