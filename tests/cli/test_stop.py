"""`stop` needs the home and its Postgres only, so it works although the other settings are wrong."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.host.machine import boot_id, host_name
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import is_running, stop_postgres
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.settings import load_settings
from tests.support.cli import Call
from tests.support.patience import PATIENCE_SECONDS
from tests.support.short_folders import make_short_folder
from tests.support.started_home import copy_started_home

WORKER = """
import sys, time
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
with Ledger(sys.argv[1]) as ledger, Worker(ledger, "drain"):
    print("registered", flush=True)
    time.sleep(600)
"""
OWN_STAGE = "stages: {payment: {prompt: 'What must be paid?', answer: {amount: number}}}\n"


@contextmanager
def worker(url: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that is a worker of the ledger."""
    with subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "registered\n"
            yield process
        finally:
            process.kill()


def write(file: Path, text: str) -> None:
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)


@pytest.fixture
def file() -> Path:
    return Path(os.environ["OFFLOAD_HOME"]) / "offload.yaml"


def stages(url: str) -> set[str]:
    with Ledger(url) as ledger, ledger.transaction() as cur:
        return {row["name"] for row in cur.execute("select name from stages")}


@pytest.mark.parametrize("edit", ["slots: {deep: {modell: m}}\n", "stages: [\n", "library: ${UNSET}\nhome: {{\n"])
def test_it_stops_workers_after_a_wrong_edit_and_leaves_the_stages_of_the_ledger(
    call: Call, ledger_url: str, file: Path, edit: str
) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    write(file, OWN_STAGE)
    with open_ledger(load_settings()):
        pass
    write(file, edit)
    with worker(ledger_url) as process:
        result = call("stop")
        assert (result.exit_code, result.stdout) == (0, "stopped: 1 worker\n")
        assert result.stderr.startswith(
            f"stopping what runs on {file.parent}, although the settings are wrong: {file}:"
        )
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM
    assert "payment" in stages(ledger_url)


def test_it_uses_the_home_and_the_postgres_that_a_wrong_file_names(
    call: Call, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OFFLOAD_HOME")
    monkeypatch.setenv("LEDGER", ledger_url)
    write(tmp_path / "there" / "offload.yaml", "home: data\npostgres_url: ${LEDGER}\nlibrary: {pth: x}\n")
    monkeypatch.setenv("OFFLOAD_CONFIG", str(tmp_path / "there" / "offload.yaml"))
    monkeypatch.setenv("OFFLOAD_LIBRARI", "x")
    with worker(ledger_url) as process:
        result = call("stop")
        assert (result.exit_code, result.stdout) == (0, "stopped: 1 worker\n")
        assert str(tmp_path / "there" / "data") in result.stderr
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_it_stops_workers_although_a_line_of_dotenv_cannot_be_read(call: Call, ledger_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    Path(".env").write_text("OFFLOAD_LANGUAGE ko\n")
    with worker(ledger_url) as process:
        result = call("stop")
        assert (result.exit_code, result.stdout) == (0, "stopped: 1 worker\n")
        assert "although the settings are wrong: " in result.stderr
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


@pytest.mark.parametrize("name", ["OFFLOAD_HOME", "OFFLOAD_POSTGRES_URL", "OFFLOAD_CONFIG"])
def test_it_refuses_if_the_line_of_dotenv_that_cannot_be_read_names_the_place(call: Call, name: str) -> None:
    Path(".env").write_text(f"{name} /elsewhere\n")
    result = call("stop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert ".env:1: is not NAME=value" in result.stderr


def test_it_refuses_if_a_file_elsewhere_that_is_not_yaml_may_name_the_home(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OFFLOAD_HOME")
    write(tmp_path / "there" / "offload.yaml", "stages: [\n")
    monkeypatch.setenv("OFFLOAD_CONFIG", str(tmp_path / "there" / "offload.yaml"))
    result = call("stop")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not YAML" in result.stderr


def test_a_postgres_without_a_ledger_has_no_workers(call: Call, empty_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = empty_url
    result = call("stop")
    assert (result.exit_code, result.stderr) == (0, "")


def test_it_stops_a_worker_whose_clock_is_ahead_of_the_clock_of_the_postgres(call: Call, ledger_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    with worker(ledger_url) as process:
        with Ledger(ledger_url) as ledger, ledger.transaction() as cur:
            cur.execute("update workers set started_at = started_at - interval '1 hour'")
        assert call("stop").stdout == "stopped: 1 worker\n"
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


def test_a_process_that_only_has_the_id_of_a_dead_worker_is_left_alone(call: Call, ledger_url: str) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    with subprocess.Popen(["sleep", "600"]) as innocent:
        with Ledger(ledger_url) as ledger, ledger.transaction() as cur:
            cur.execute(
                "insert into workers (kind, host, boot_id, pid, started_at) values ('drain', %s, %s, %s, %s)",
                [host_name(), boot_id(), innocent.pid, datetime.now(UTC) - timedelta(hours=1)],
            )
        try:
            assert call("stop").exit_code == 0
            assert innocent.poll() is None
        finally:
            innocent.kill()


def test_a_process_that_has_the_id_of_a_worker_in_a_container_of_the_same_name_is_left_alone(
    call: Call, ledger_url: str
) -> None:
    os.environ["OFFLOAD_POSTGRES_URL"] = ledger_url
    with worker(ledger_url) as process, subprocess.Popen(["sleep", "600"]) as innocent:
        with Ledger(ledger_url) as ledger, ledger.transaction() as cur:
            cur.execute("update workers set pid = %s where pid = %s", [innocent.pid, process.pid])
        try:
            assert call("stop").stdout.startswith("nothing was running on ")
            assert (innocent.poll(), process.poll()) == (None, None)
        finally:
            innocent.kill()


@pytest.mark.parametrize(
    ("boot", "process_start"), [("another boot", "1"), (boot_id(), "1")], ids=["another host", "a container"]
)
def test_a_process_that_only_has_the_id_of_an_up_elsewhere_is_left_alone(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boot: str, process_start: str
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    with subprocess.Popen(["sleep", "600"]) as innocent, hold_up_lock(home) as lock:
        lock.write(RunningUp(innocent.pid, host="attic", boot=boot, process_start=process_start))
        try:
            result = call("stop")
            with pytest.raises(SettingsError, match=rf"\(process {innocent.pid} on attic\)"), hold_up_lock(home):
                pass
            assert innocent.poll() is None
        finally:
            innocent.kill()
    assert result.exit_code == 2
    assert "runs on attic, or in a container: stop it there" in result.stderr


def test_the_holder_of_the_lock_knows_that_it_is_here() -> None:
    assert RunningUp.of_this_process().is_here


def test_a_watch_shows_that_the_home_is_stopped_starts_nothing_and_goes_on(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_short_folder()
    folder.chmod(0o755)  # if the tests run as root, Postgres does not
    home = folder / "home"
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    copy_started_home(home)
    with subprocess.Popen(
        [sys.executable, "-m", "dagster_offload.cli", "status", "--watch"], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        try:
            assert f"{home} is stopped" in next(watch.stdout)
            assert not is_running(home)
            with open_ledger(load_settings()):
                pass
            assert next(line for line in watch.stdout if line.startswith("summarize"))
            assert call("stop").stdout == "stopped: Postgres\n"
            assert next(line for line in watch.stdout if "is stopped" in line)
            assert not is_running(home)
        finally:
            watch.kill()
            stop_postgres(home)
            shutil.rmtree(folder)
