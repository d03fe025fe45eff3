"""How commands report errors: one line that names what to change, an exit code, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from dagster_postgres.utils import DagsterPostgresException

from dagster_offload.cli import status
from dagster_offload.simulator import Router
from tests.support.cli import Call
from tests.support.ports import held_port


def home() -> Path:
    return Path(os.environ["OFFLOAD_HOME"])


@pytest.mark.rule("drain-1")
def test_a_drain_of_extract_is_refused_before_anything_is_opened(call: Call) -> None:
    result = call("drain", "extract", "--deep-url", "http://localhost:1", "--deep-model", "m")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "'extract' is not a drain stage" in result.stderr
    assert not home().exists()


@pytest.mark.rule("drain-1")
def test_a_drain_without_a_deep_slot_is_refused_before_anything_is_opened(call: Call) -> None:
    result = call("drain", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": "no deep slot is configured: set OFFLOAD_DEEP_URL and OFFLOAD_DEEP_MODEL",
        "exit_code": 2,
    }
    assert result.stderr.count("\n") == 1
    assert not home().exists()


@pytest.mark.parametrize("arguments", [["drain"], ["status"], ["scan"], ["doctor"], ["up"]])
def test_a_url_without_a_model_is_refused(call: Call, arguments: list[str]) -> None:
    os.environ["OFFLOAD_DEEP_URL"] = "http://localhost:1"
    result = call(*arguments)
    assert result.exit_code == 2
    assert "OFFLOAD_DEEP_MODEL" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not home().exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--bogus", "--json"],
        ["explain", "--json"],
        ["redo", "--json"],
        ["slot", "show", "--json", "x"],
        ["bogus", "--json"],
    ],
)
def test_wrong_usage_with_json_prints_one_json_object(call: Call, arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["exit_code"] == 2
    assert found["error"] in result.stderr


def test_wrong_usage_without_json_shows_the_usage(call: Call) -> None:
    result = call("status", "--bogus")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: " in result.stderr


@pytest.mark.parametrize("option", ["--concurrency", "--prompt-cache-size"])
@pytest.mark.parametrize("typed", ["foo", "0", "513"])
def test_a_wrong_number_for_a_slot_is_refused_with_the_valid_range(call: Call, option: str, typed: str) -> None:
    result = call("slot", "set", "deep", option, typed)
    assert result.exit_code == 2
    assert f"{typed!r} is neither a number from 1 to 512 nor auto" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["drain"], ["status"], ["scan"], ["doctor"], ["up"], ["slot", "show"], ["explain", "x.txt"]]
)
def test_an_invalid_url_is_refused_before_anything_is_opened(call: Call, arguments: list[str]) -> None:
    os.environ |= {"OFFLOAD_DEEP_URL": "http://127.0.0.1:99999", "OFFLOAD_DEEP_MODEL": "m"}
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("dagster-offload: OFFLOAD_DEEP_URL: must name a host")
    assert result.stderr.count("\n") == 1
    assert not home().exists()


def test_the_message_names_a_wrong_setting(call: Call) -> None:
    os.environ["OFFLOAD_DEEP_CONCURRENCY"] = "many"
    result = call("status")
    assert result.exit_code == 2
    assert result.stderr.startswith("dagster-offload: OFFLOAD_DEEP_CONCURRENCY: ")
    assert result.stderr.count("\n") == 1


def test_up_without_a_library_explains_how_to_set_one(call: Call) -> None:
    result = call("up")
    assert result.exit_code == 2
    assert "--library" in result.stderr


def test_an_unexpected_error_is_one_line_and_its_log_quotes_no_document(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = "what stands in a document"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\n".join(["it broke", f"DETAIL: {document}"]))

    monkeypatch.setattr(status, "load_report", fail)
    result = call("status", "--json")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert json.loads(result.stdout)["exit_code"] == 1
    log = home() / "logs" / "errors.log"
    assert (
        f"RuntimeError: it broke - this is a bug in dagster-offload; please report it. Details: {log}" in result.stderr
    )
    written = log.read_text()
    assert "in fail" in written
    assert document not in written.replace(f'document = "{document}"', "")


def test_a_full_disk_is_no_bug_and_names_the_file(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        with Path("/dev/full").open("w") as full:
            full.write("x" * 100_000)

    monkeypatch.setattr(status, "load_report", fail)
    result = call("status")
    assert result.exit_code == 2
    assert "no space is left on the disk: free some space, then run the command again. Nothing is lost" in result.stderr
    assert "bug" not in result.stderr


def test_an_output_on_a_full_disk_is_reported_in_one_line() -> None:
    command = [sys.executable, "-m", "dagster_offload.cli", "explain", "nothing", "--json"]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "said", ["wrote only 4096 of 8192 bytes at block 0", 'could not write to "pg_wal": No space left on device']
)
def test_a_full_disk_of_postgres_is_no_bug(call: Call, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise psycopg.errors.DiskFull(f'could not extend file "base/1/2": {said}\nHINT: Check free disk space.')

    monkeypatch.setattr(status, "load_report", fail)
    result = call("status")
    assert result.exit_code == 75
    assert result.stderr.endswith(f"{said}: free some space on the disk of the Postgres data. Nothing is lost\n")


def test_the_log_of_errors_does_not_grow_without_a_limit(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr(status, "load_report", fail)
    monkeypatch.setattr("dagster_offload.service.home.MAX_LOG_BYTES", 100)
    for _ in range(5):
        call("status")
    log = home() / "logs" / "errors.log"
    assert log.read_text().count("RuntimeError: it broke") == 1
    assert log.with_suffix(".log.1").read_text().count("RuntimeError: it broke") == 1


def test_an_interrupt_is_reported_in_one_line(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(status, "load_report", interrupt)
    result = call("status")
    assert result.exit_code == 130
    assert result.stderr == "dagster-offload: interrupted; nothing is lost\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "lines"),
    [
        (["status", "--help"], 1, 0),
        (["doctor", "--deep-url", "http://127.0.0.1:1", "--deep-model", "m"], 1, 0),
        (["drain", "--json"], 2, 1),  # the error is still reported
    ],
)
def test_a_closed_output_pipe_is_not_reported_as_an_error(arguments: list[str], exit_code: int, lines: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "dagster_offload.cli", *arguments]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert ended.stderr.count("\n") == lines, ended.stderr
    assert ended.returncode == exit_code
    assert not home().exists()


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["config path", "explain nothing --json"])
def test_a_stream_that_the_caller_closed_is_no_bug(call: Call, closed: str, arguments: str) -> None:
    command = f"{sys.executable} -m dagster_offload.cli {arguments}"
    usual = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    result = subprocess.run(["/bin/sh", "-c", f"{command} {closed}"], capture_output=True, text=True)
    assert result.returncode == usual.returncode
    assert result.stdout in ("", usual.stdout)
    assert result.stderr in ("", usual.stderr)


def test_another_broken_pipe_is_reported(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(status, "load_report", fail)
    result = call("status")
    assert result.exit_code == 1
    assert "BrokenPipeError" in result.stderr


@pytest.mark.rule("pipeline-5")
@pytest.mark.rule("drain-6")
@pytest.mark.parametrize("command", ["status", "drain", "scan"])
def test_a_postgres_that_does_not_answer_is_unavailable_and_nothing_is_wrong(
    call: Call, library: Path, router: Router, command: str
) -> None:
    with held_port() as port:
        os.environ["OFFLOAD_POSTGRES_URL"] = f"postgresql://127.0.0.1:{port}/offload"
        result = call(command, "--json")
    assert (result.exit_code, json.loads(result.stdout)["exit_code"]) == (75, 75)
    assert "cannot use the database at" in result.stderr


@pytest.mark.rule("drain-6")
def test_a_drain_that_dagster_ends_because_postgres_is_away_can_be_run_again(
    call: Call, with_ledger: str, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_: object, **__: object) -> None:
        raise DagsterPostgresException("the retries of Dagster are used up")

    monkeypatch.setattr("dagster_offload.defs.execution.in_process.run_in_process", end)
    result = call("drain")
    assert result.exit_code == 75
    assert "Run the command again when Postgres is back" in " ".join(result.stderr.split())


def test_a_library_that_was_mistyped_is_refused_although_the_ledger_has_documents(
    call: Call, scanned: Path, tmp_path: Path
) -> None:
    refused = call("up", "--library", str(tmp_path / "librari"))
    assert refused.exit_code == 2
    assert f"did you mean {tmp_path / 'library'}?" in refused.output


def test_each_fault_of_the_settings_is_on_a_line_of_its_own(call: Call, tmp_path: Path) -> None:
    (tmp_path / "offload.yaml").write_text("prefork: maybe\nslots: {deep: {concurrency: many}}\n")
    refused = call("status", "--config", str(tmp_path / "offload.yaml"))
    assert refused.exit_code == 2
    assert [line.split(": ", 2)[2] for line in refused.output.splitlines()] == [
        "slots.deep.concurrency: must be a whole number or 'auto' (it is 'many')",
        "prefork: must be 'auto' or 'off' (it is 'maybe')",
    ]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("drain --deep-url nonsense --deep-model q", "--deep-url: must start with http:// or https://"),
        ("drain --deep-url http://x:1", "--deep-url is set, but --deep-model is not: set it, or slots.deep.model in"),
        ("drain --deep-model q", "no deep slot is configured: set --deep-url and --deep-model"),
        ("status --home /proc/none", "there is no ledger in /proc/none: correct --home, or start"),
        (
            "up --library /none",
            "the library /none does not exist: set --library, or library.path in the pipeline file, to",
        ),
    ],
)
def test_an_error_of_a_typed_option_names_the_option(call: Call, command: str, said: str) -> None:
    refused = call(*command.split())
    assert refused.exit_code == 2
    assert f"dagster-offload: {said}" in refused.stderr


def test_an_error_of_a_variable_names_the_variable(call: Call) -> None:
    os.environ |= {"OFFLOAD_DEEP_URL": "nonsense", "OFFLOAD_DEEP_MODEL": "q"}
    assert "dagster-offload: OFFLOAD_DEEP_URL: must start with" in call("drain").stderr
    assert "dagster-offload: OFFLOAD_DEEP_URL: must start with" in call("drain", "--deep-model", "m").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "--library", ""],
        ["up", "--library", ""],
        ["status", "--home", ""],
        ["status", "--config", ""],
        ["records", "--format", "md", "--out", ""],
        ["backup", ""],
        ["init", ""],
        ["text", ""],
        ["stage", "try", "classify", ""],
    ],
)
def test_an_empty_path_is_refused_and_is_not_the_current_folder(
    call: Call, tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2
    assert "the path is empty" in result.stderr
    assert not list(tmp_path.iterdir())
