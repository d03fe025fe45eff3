"""What `up` shows about its UI: addresses, who can open it, and the token only on a terminal."""

import io
from pathlib import Path

import click
import pytest
from rich.console import Console

from dagster_offload.cli.up import _welcome, command
from dagster_offload.service.ports import network_address_of
from dagster_offload.service.ui.access import decide_access
from dagster_offload.settings import load_settings
from tests.support.pipeline_file import written


def welcome(host: str, *, is_terminal: bool = True, **settings: str) -> str:
    loaded = load_settings(**settings)
    loaded.home.mkdir(exist_ok=True)
    written = io.StringIO()
    with click.Context(command):
        console = Console(
            file=written, force_terminal=is_terminal, no_color=True, markup=False, highlight=False, width=80
        )
        _welcome(console, loaded, decide_access(loaded.ui, loaded.home, host), host, 3000)
    return written.getvalue()


@pytest.fixture
def token() -> str:
    """The token of this test's home."""
    settings = load_settings(ui_token="on")
    settings.home.mkdir()
    access = decide_access(settings.ui, settings.home, "127.0.0.1")
    assert access.token is not None
    return access.token


def test_on_loopback_it_says_that_every_local_user_can_open_the_ui() -> None:
    assert "Every user of this machine can open it" in welcome("127.0.0.1")
    assert "Every user" not in welcome("127.0.0.1", ui_token="on")


def test_the_token_is_shown_whole_on_a_terminal_and_nowhere_else(token: str) -> None:
    on_terminal = welcome("127.0.0.1", ui_token="on", ui_path_prefix="/offload")
    assert f"  http://127.0.0.1:3000/offload/login?token={token}\n" in on_terminal
    in_log = welcome("127.0.0.1", is_terminal=False, ui_token="on")
    assert token not in in_log
    assert "dagster-offload status" in in_log


def test_for_all_addresses_it_shows_the_one_for_other_machines() -> None:
    expected = network_address_of("0.0.0.0", 3000)
    shown = welcome("0.0.0.0", ui_token="on")
    assert "Plain HTTP" in shown
    if expected is not None:
        assert f"{expected} (from other machines)" in shown


def test_it_shows_the_address_at_the_proxy() -> None:
    shown = welcome("127.0.0.1", ui_proxy="https://docs.example.org", ui_path_prefix="/offload")
    assert "https://docs.example.org/offload (through the proxy)" in shown


def test_with_several_slots_work_goes_on_when_one_of_them_is_back(tmp_path: Path) -> None:
    deep = "deep: {url: 'http://macbook.local:8890', model: qwen}"
    studio = "studio: {url: 'http://studio.local:8890', model: qwen}"
    file = written(
        f"slots:\n  {deep}\n  {studio}\nstages:\n  classify: {{slots: [deep, studio]}}\n", tmp_path / "two.yaml"
    )
    two = welcome("127.0.0.1", config=str(file))
    assert "While all are unavailable" in two
    assert "When one is back" in two
    assert "When it is back" in welcome("127.0.0.1", deep_url="http://macbook.local:8890", deep_model="qwen")
