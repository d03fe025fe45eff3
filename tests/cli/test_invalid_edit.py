"""What a person can still do while the pipeline file has a mistake: look, pause, resume, back up and stop."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import rests, slots
from dagster_offload.service.home import hold_up_lock
from dagster_offload.service.pipeline import COPY_NAME, RunningPipeline
from dagster_offload.settings import read_settings
from dagster_offload.settings.leaves import CONFIG, CONFIG_SNAPSHOT
from dagster_offload.simulator import Router
from dagster_offload.sinks.planning import register
from tests.support.cli import Call

TEXT = """\
slots: {studio: {url: 'http://127.0.0.1:1', model: qwen}}
stages: {summarize: {slots: [deep, studio]}}
on_record: {hook: {webhook: 'http://127.0.0.1:1/'}}
"""
WITHOUT_STUDIO = "slots: {}\nclases: [tax]\n"
FAULT = ":2:1: there is no key 'clases'"
WARNING = (
    "dagster-offload: an edit of the settings is not valid, so those that the running `up` has in force are used: "
)

THEY_WORK = (
    ("status",),
    ("status", "--json"),
    ("explain", "letter.txt"),
    ("records",),
    ("records", "letter.txt", "--json"),
    ("correct", "--list"),
    ("slot", "show"),
    ("sink", "list", "--json"),
    ("notify", "list"),
    ("pause",),
    ("pause", "studio", "--until", "2h"),
    ("resume",),
    ("slot", "set", "deep", "--concurrency", "2"),
    ("sink", "pause", "hook"),
    ("sink", "resume", "hook"),
    ("backup", "offload.backup", "--quiet"),
)
THEY_REFUSE = (
    ("scan",),
    ("drain",),
    ("redo", "--outdated", "--yes"),
    ("retry", "letter.txt"),
    ("correct", "letter.txt", "--set", "category=letter"),
    ("slot", "forget", "deep"),
    ("sink", "send"),
    ("notify", "send"),
    ("stage", "try", "summarize", "letter.txt"),
    ("preview",),
    ("text", "letter.txt"),
    ("gc", "--older-than", "90d"),
    ("config", "check"),
    ("config", "show"),
    ("up",),
)


@pytest.fixture
def file(scanned: Path, router: Router, tmp_path: Path) -> Path:
    """A valid pipeline file, in the home of a library of two documents."""
    os.environ["OFFLOAD_DEEP_EXPECTED_MODEL"] = "simulated/"
    home = tmp_path / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    file = home / "offload.yaml"
    file.write_text(TEXT)
    file.chmod(0o600)
    return file


@contextmanager
def up(file: Path) -> Iterator[RunningPipeline]:
    """What a running `up` keeps in force. The commands in the block are those of another terminal."""
    loaded = read_settings()
    with (
        Ledger(os.environ["OFFLOAD_POSTGRES_URL"]) as ledger,
        hold_up_lock(file.parent),
        RunningPipeline(ledger, loaded, print) as pipeline,
    ):
        register(loaded.settings, ledger)
        for slot in loaded.settings.slots:
            ledger.run(slots.register, slot)
        of_up = {name: os.environ.pop(name) for name in (CONFIG, CONFIG_SNAPSHOT)}
        try:
            yield pipeline
        finally:
            os.environ |= of_up


@pytest.mark.rule("pipeline-8")
def test_a_person_can_look_pause_and_resume_and_each_command_warns_once(call: Call, file: Path) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        for command in THEY_WORK:
            result = call(*command)
            assert result.exit_code == 0, (command, result.output)
            warnings = [line for line in result.stderr.splitlines() if line.startswith(WARNING)]
            assert len(warnings) == 1, command
            assert f"{file}{FAULT}" in warnings[0], command
            assert WARNING not in result.stdout, command


@pytest.mark.rule("pipeline-8")
def test_status_names_the_fault_once(call: Call, file: Path) -> None:
    with up(file) as running:
        file.write_text(WITHOUT_STUDIO)
        running.check()
        result = call("status")
        assert (result.stderr + result.stdout).count(FAULT) == 1
        file.write_text(TEXT)
        assert FAULT in call("status").stdout, "valid here, and `up` has not read it yet"


@pytest.mark.rule("pipeline-8")
def test_what_works_by_the_file_refuses(call: Call, file: Path) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        for command in THEY_REFUSE:
            result = call(*command)
            assert result.exit_code == 2, (command, result.output)
            assert f"{file}{FAULT}" in result.stderr, command
            assert "in force" not in result.stderr, command


@pytest.mark.rule("pipeline-8")
def test_the_settings_in_force_are_those_before_the_edit(call: Call, file: Path, with_ledger: str) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        assert json.loads(call("pause", "studio", "--json").stdout)["paused"] == ["studio"]
        assert "studio" in json.loads(call("status", "--json").stdout)["slots"]
        with Ledger(with_ledger) as ledger:
            assert list(ledger.run(rests.pauses)) == ["studio"]
        file.write_text(TEXT)
        assert call("resume", "studio").stderr == ""


@pytest.mark.rule("pipeline-8")
def test_doctor_tests_the_slot_in_force_and_fails_with_the_fault(call: Call, file: Path) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        result = call("doctor", "--json")
    assert result.exit_code == 78, result.output
    assert result.stderr.startswith(WARNING)
    found = json.loads(result.stdout)
    assert (found["ok"], found["advice"].split(",")[0]) == (False, "correct the edit of the settings")
    assert found["checks"][0]["name"] == "settings"
    assert f"{file}{FAULT}" in found["checks"][0]["found"]
    assert [check["name"] for check in found["checks"] if not check["ok"] and check["is_about_slot"]] == []


@pytest.mark.rule("pipeline-8")
def test_the_shell_on_the_ledger_opens(file: Path) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        shell = [sys.executable, "-m", "dagster_offload.cli", "psql", "--", "-Atc", "select count(*) from documents"]
        result = subprocess.run(shell, capture_output=True, text=True, check=True)
    assert result.stdout == "2\n"
    assert result.stderr.startswith(WARNING)


@pytest.mark.rule("pipeline-8")
def test_the_settings_in_force_are_found_if_the_file_elsewhere_names_its_home(call: Call, file: Path) -> None:
    elsewhere = Path("offload.yaml")
    elsewhere.write_text(f"home: {file.parent}\n{TEXT}")
    file.unlink()
    file.symlink_to(elsewhere.absolute())  # as `up` does
    del os.environ["OFFLOAD_HOME"]
    with up(file):
        elsewhere.write_text(f"home: {file.parent}\nclases: [tax]\n")
        result = call("status")
    assert (result.exit_code, result.stderr.startswith(WARNING)) == (0, True)


@pytest.mark.rule("pipeline-8")
def test_a_mistake_that_is_not_in_the_file_of_the_running_up_is_refused(call: Call, file: Path) -> None:
    with up(file):
        file.write_text(WITHOUT_STUDIO)
        os.environ["OFFLOAD_OCR"] = "perhaps"
        in_a_variable = call("status")
        del os.environ["OFFLOAD_OCR"]
        in_an_option = call("status", "--config", str(file.with_name("missing.yaml")))
        del os.environ["OFFLOAD_CONFIG"]
    assert (in_a_variable.exit_code, in_an_option.exit_code) == (2, 2)
    assert f"{file}{FAULT}" in in_a_variable.stderr
    assert "OFFLOAD_OCR" in in_a_variable.stderr
    assert "missing.yaml cannot be read" in in_an_option.stderr


@pytest.mark.rule("pipeline-8")
def test_without_a_running_up_nothing_else_is_in_force(call: Call, file: Path) -> None:
    with up(file):
        copy = file.with_name(COPY_NAME).read_text()
    for is_left_from_a_crash in (False, True):
        if is_left_from_a_crash:
            file.with_name(COPY_NAME).write_text(copy)
        file.write_text(WITHOUT_STUDIO)
        for command in (("status",), ("records",), ("pause",), ("sink", "pause", "hook")):
            result = call(*command)
            assert result.exit_code == 2, command
            assert result.stderr.startswith(f"dagster-offload: {file}{FAULT}"), command
