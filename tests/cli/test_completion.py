"""Completion by the shell: of documents and stages, and its installation."""

import json
import subprocess
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from dagster_offload.cli import main
from tests.support.cli import Call


def completed(*words: str) -> list[str]:
    """What the Tab key offers for the last word."""
    *before, incomplete = words
    found = ShellComplete(main, {}, "dagster-offload", "X").get_completions(before, incomplete)
    return [item.value for item in found]


def test_documents_are_completed_by_their_beginning(scanned: Path) -> None:
    assert completed("explain", "let") == ["letter.txt"]
    assert completed("records", "") == ["letter.txt", "minutes.md"]
    assert completed("retry", "letter.txt", "m") == ["minutes.md"]


def test_stages_are_completed(call: Call) -> None:
    assert completed("retry", "--stage", "c") == ["classify"]
    assert completed("drain", "sum") == ["summarize"]


def test_without_a_running_postgres_nothing_is_completed_and_nothing_starts(library: Path) -> None:
    assert completed("explain", "let") == []


def test_commands_are_completed() -> None:
    assert completed("exp") == ["explain"]
    assert completed("config", "s") == ["schema", "set", "show"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_install_writes_the_script_and_can_run_twice(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    for variable in ("HOME", "ZDOTDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("SHELL", f"/usr/bin/{shell}")
    first = json.loads(call("completion", "install", "--json").stdout)
    contents = [Path(file).read_text() for file in first["files"]]
    assert first["shell"] == shell
    assert "_DAGSTER_OFFLOAD_COMPLETE" in contents[0]
    assert call("completion", "install").exit_code == 0
    assert [Path(file).read_text() for file in first["files"]] == contents
    if shell == "bash":
        subprocess.run(["bash", "-n", first["files"][0]], check=True)


def test_an_unknown_shell_is_refused_with_the_known_ones(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    result = call("completion", "install")
    assert result.exit_code == 2
    assert "bash, zsh, fish" in result.stderr
    assert isinstance(main, click.Group)
