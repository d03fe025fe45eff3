"""The list of commands and their help: complete, with examples, and without heavy imports."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

import dagster_offload.cli
from dagster_offload.cli import COMMANDS, main
from dagster_offload.simulator import Router
from tests.support.cli import Call

# Files of the folder that are not commands.
HELPERS = {
    "confirmation",
    "console",
    "exits",
    "explained_calls",
    "find_document",
    "formatting",
    "in_force",
    "options",
    "quick_probe",
    "record_lines",
    "running",
    "run_job",
    "slot_text",
    "stage_bars",
    "stage_inputs",
    "status_next_steps",
    "status_report",
    "status_text",
    "typed",
    "waits",
}


def test_each_command_has_a_file_and_each_file_is_a_command() -> None:
    files = {path.stem for path in Path(dagster_offload.cli.__file__).parent.glob("*.py") if path.stem[0] != "_"}
    assert {name.replace("-", "_") for name in COMMANDS} == files - HELPERS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_has_an_example(name: str, call: Call) -> None:
    result = call(name, "--help")
    assert result.exit_code == 0
    assert f"dagster-offload {name}" in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_one_line_for_each_command(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert COMMANDS[name].endswith(".")


GROUPS = [name for name in COMMANDS if isinstance(main.get_command(click.Context(main), name), click.Group)]


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_without_a_command_shows_its_help_once(name: str, call: Call) -> None:
    result = call(name)
    assert result.exit_code == 2
    assert result.stderr.count("Usage: ") == 1
    assert "Error" not in result.stderr


@pytest.mark.parametrize("name", GROUPS)
def test_a_mistyped_command_of_a_group_names_those_that_there_are(name: str, call: Call) -> None:
    assert "there is no command 'xyzzy': use one of " in call(name, "xyzzy").stderr


def test_an_unknown_command_is_wrong_usage(call: Call) -> None:
    assert call("dryn").exit_code == 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["explian"], "did you mean explain?"),
        (["Status"], "did you mean status?"),
        (["config", "shwo"], "did you mean show?"),
        (["xyzzy"], "use one of init, up, stop"),
    ],
)
def test_a_mistyped_command_gets_the_nearest_one(call: Call, typed: list[str], meant: str) -> None:
    result = call(*typed)
    assert result.exit_code == 2
    assert meant in result.stderr


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], ["dagster", "httpx", "pydantic", "psycopg", "rich"]),
        (["status", "--help"], ["dagster", "psycopg"]),
        (["drain", "extract"], ["dagster"]),
        (["doctor"], ["dagster"]),
    ],
)
def test_commands_import_only_what_they_need(arguments: list[str], unwanted: list[str]) -> None:
    assert unwanted_imports(arguments, unwanted) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--json"],
        ["explain", "letter.txt", "--json"],
        ["retry", "letter.txt"],
        ["slot", "set", "deep", "--prompt-cache-size", "2"],
    ],
)
def test_commands_that_only_use_the_ledger_import_no_http_client(
    scanned: Path, router: Router, arguments: list[str]
) -> None:
    assert unwanted_imports(arguments, ["dagster", "httpx", "aiohttp", "rich"]) == []


def unwanted_imports(arguments: list[str], unwanted: list[str]) -> list[str]:
    """The modules of `unwanted` that a process has imported when its command ends."""
    script = (
        "import sys\n"
        "from dagster_offload.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "print(sorted(name for name in sys.modules))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    return [name for name in unwanted if f"'{name}'" in found]
