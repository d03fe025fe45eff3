"""The UI of a real `up`: refused without a log-in, opened by its token, usable in a browser, and secret where it must be."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dagster_offload.service.ui.sessions import SECRET_NAME
from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home, command_line, wait_for
from tests.support.browser import browser
from tests.support.dagsters_pages import check_attacks_fail, check_dagsters_pages
from tests.support.patience import PATIENCE_SECONDS
from tests.support.searching import files_with


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    """An `up` with a token that other machines can reach."""
    with Router(mode="cold") as router, a_home(router) as home:
        home.write("letter.txt", "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
        home.environment["OFFLOAD_UI_PATH_PREFIX"] = "/offload"
        home.environment["OFFLOAD_PREVIEWS"] = "off"
        yield home


def address_with_token(home: Home) -> str:
    """The address that `status` prints."""
    found = re.search(r"^up .*UI at ([^;\s]+)", home.run("status").stdout, re.MULTILINE)
    assert found is not None
    return found[1]


def status_of(address: str) -> int:
    return httpx.get(address, trust_env=False, timeout=PATIENCE_SECONDS).status_code


def test_up_refuses_other_machines_without_a_log_in_and_starts_nothing(home: Home) -> None:
    refused = home.run("up", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--token" in refused.stderr
    assert "OFFLOAD_UI_PASSWORD_FILE" in refused.stderr
    assert "--behind-proxy" in refused.stderr
    assert home.processes() == []


def test_up_with_a_token_keeps_it_out_of_logs_and_process_lists(home: Home) -> None:
    home.up("--host", "0.0.0.0", "--token")
    secret = (home.home / SECRET_NAME).read_text().strip()
    assert address_with_token(home) == f"{home.address}/login?token={secret}"
    assert status_of(address_with_token(home)) == 303
    assert status_of(f"{home.address}/login?token=x{secret}") == 401
    assert status_of(f"{home.address}/runs") == 401
    assert "dagster-offload status" in home.said
    assert secret not in home.said, "its output is not a terminal"
    assert secret not in home.run("status", "--json").stdout
    lines = [command_line(process) for process in home.processes()]
    environments = [str(process.info["environ"]) for process in home.processes()]
    assert len(lines) >= 4
    assert not [text for text in (*lines, *environments) if secret in text]
    assert files_with([secret], home.home, without=[]) == [home.home / SECRET_NAME]


def test_previews_off_keeps_texts_out_of_dagster(home: Home) -> None:
    secret = (home.home / SECRET_NAME).read_text().strip()
    query = (
        '{ assetNodeOrError(assetKey: {path: ["extracted_text"]}) { ... on AssetNode { assetMaterializations(limit: 1) '
        "{ metadataEntries { label } } } } }"
    )

    def labels() -> list[str]:
        answer = httpx.post(
            f"{home.address}/graphql",
            json={"query": query},
            headers={"Authorization": f"Bearer {secret}"},
            timeout=PATIENCE_SECONDS,
            trust_env=False,
        ).json()
        events: list[dict[str, Any]] = answer["data"]["assetNodeOrError"]["assetMaterializations"]
        return [entry["label"] for event in events for entry in event["metadataEntries"]]

    wait_for(lambda: labels() != [], "the scan's event")
    assert "characters" in labels()
    assert "preview" not in labels()


@pytest.mark.chromium
def test_with_a_token_dagsters_pages_work_in_a_browser_after_the_log_in(home: Home, router: Router) -> None:
    with browser() as tab:
        tab.open(f"{home.address}/runs")
        tab.wait_for_text("Log in")
        tab.open(address_with_token(home))
        wait_for(lambda: "token" not in tab.run("location.href"), "the address without the token")
        check_dagsters_pages(tab, home)
        assert tab.run("document.cookie") == "", "no script can read the session"
        # Another server on this machine is the same site, and the browser sends it our cookie. Its requests are refused.
        secret = (home.home / SECRET_NAME).read_text().strip()
        check_attacks_fail(tab, f"{router.url}/health", home, Authorization=f"Bearer {secret}")
