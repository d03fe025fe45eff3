"""Completion by the shell: of documents and stages, and its installation."""

import json
import os
import subprocess
from pathlib import Path

import click
import psycopg
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


def test_the_tab_key_creates_and_migrates_no_ledger(library: Path, empty_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    assert completed("explain", "let") == []
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("select from pg_namespace where nspname = 'offload'").fetchall() == []


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


# What Tab and then Enter do in bash: the function fills COMPREPLY, and the shell reads the line.
TAB_AND_ENTER = """
source script
COMP_WORDS=(dagster-offload explain "$1") COMP_CWORD=2
_dagster_offload_completion dagster-offload
for offered in "${COMPREPLY[@]}"; do eval "printf '%s\\n' $offered"; done
"""


def after_tab(call: Call, folder: Path, name: str, typed: str = "") -> tuple[str, str]:
    """What bash reads after Tab and Enter, if the product offers `name` and another one."""
    (folder / "script").write_text(call("completion", "show", "bash").stdout)
    program = folder / "dagster-offload"
    program.write_text(f"#!/bin/sh\ncat <<'END'\nplain,{name}\nplain,second.txt\nEND\n")
    program.chmod(0o755)
    ran = subprocess.run(
        ["bash", "--norc", "-c", TAB_AND_ENTER, "bash", typed],
        cwd=folder,
        env={"PATH": f"{folder}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout, ran.stderr


@pytest.mark.parametrize(
    "name",
    [
        "$(touch pwned).txt",
        "`touch pwned`.txt",
        "a; touch pwned #.txt",
        "a & touch pwned.txt",
        "a > pwned",
        "$HOME and ~ and *",
        'it\'s "quoted", with, commas \\ and a backslash.txt',
        "청구서 2025.pdf",
        "plain.txt",
    ],
)
def test_a_name_that_the_tab_key_inserts_in_bash_runs_nothing(call: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / name.replace("/", "-")).touch()  # the shell must not expand names of files either
    assert after_tab(call, tmp_path, name) == (f"{name}\nsecond.txt\n", "")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("typed", ['"a', "'a", "b'c"])
def test_the_tab_key_inserts_nothing_inside_quotes_where_quoting_means_something_else(
    call: Call, tmp_path: Path, typed: str
) -> None:
    assert after_tab(call, tmp_path, "a\u2028$(touch pwned).txt", typed) == ("", "")
    assert after_tab(call, tmp_path, "it's.txt", "it\\'s") == ("it's.txt\nsecond.txt\n", "")
