"""Every command with --json prints one object, whose keys are those of docs/json.md."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dagster_offload.cli import main
from dagster_offload.cli.exits import ExitCode
from dagster_offload.simulator import Router
from tests.support.cli import Call

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
SECTION = re.compile(r"^### `([a-z -]+)`\n(.*?)(?=^### |\Z)", re.MULTILINE | re.DOTALL)
KEYS = re.compile(r"^- ((?:`[a-z_]+`(?:, )?)+)", re.MULTILINE)
# They run until they are stopped, or their output has another form.
WITHOUT_JSON = {"up", "simulate-router", "psql", "config schema", "completion show", "service logs"}
# Documented in words, because their summary is that of a job.
IN_WORDS = {"scan", "drain", "stage try", "stage sample", "stage check", "restore", "move", "demo"}


def documented() -> dict[str, set[str]]:
    return {
        name: {key for found in KEYS.findall(text) for key in re.findall(r"`([a-z_]+)`", found)}
        for name, text in SECTION.findall(PAGE.read_text())
    }


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def test_every_command_has_json_and_is_documented() -> None:
    with_json = {name for name, command in commands(main) if any(p.name == "as_json" for p in command.params)}
    assert {name for name, _ in commands(main)} - with_json == WITHOUT_JSON
    assert with_json - IN_WORDS - documented().keys() == set()
    assert documented().keys() - {"scan --skipped"} <= with_json


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "explain letter.txt",
        "records",
        "retry",
        "preview",
        "scan --skipped",
        "text letter",
        "config show",
        "config check",
        "config path",
        "config set language ko",
        "slot show",
        "slot set deep --try-again",
        "slot forget deep",
        "stage list",
        "init own.yaml",
        "gc --older-than 90d --yes",
        "password",
        "backup own.backup",
        "completion install bash",
        "doctor",
        "stop",
    ],
)
def test_the_keys_are_the_documented_ones(
    call: Call, scanned: Path, router: Router, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    if command.startswith("slot"):
        register_slot()
    result = call(*command.split(), "--json", input="long enough a password\n")
    assert result.exit_code == 0, result.output
    name = next(name for name in sorted(documented(), key=len, reverse=True) if command.startswith(name))
    assert set(json.loads(result.stdout)) == documented()[name]


def register_slot() -> None:
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.slots import slots
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_ledger(settings) as ledger:
        for slot in settings.slots:
            ledger.run(slots.register, slot)


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert [int(row) for row in rows] == sorted(ExitCode)


def test_quiet_leaves_only_the_result(call: Call, scanned: Path) -> None:
    assert call("explain", "MINUTES").stderr != ""
    assert call("explain", "MINUTES", "--quiet").stderr == ""
    assert call("explain", "nothing.here", "--quiet").stderr != "", "errors are printed"
