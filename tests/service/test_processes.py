"""The processes of `up`: what its checks survive."""

import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.service import processes
from dagster_offload.service.home import RunningUp, hold_up_lock
from dagster_offload.service.ports import listen_for_ui
from dagster_offload.service.processes import AWAITED, Services, running_services
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.settings import read_settings
from tests.support.acceptance import wait_for
from tests.support.patience import PATIENCE_SECONDS


class World:
    """Services whose ledger has workers of these kinds, at one look after the other, or raises an error."""

    def __init__(self, *states: Any, library: Path | None = None) -> None:
        self.states = list(states)
        self.alive: Any = ()
        self.restarted: list[str] = []
        self.said: list[str] = []
        self.written: list[RunningUp] = []
        idle: Any = SimpleNamespace(
            check=lambda *_: None,
            settings=SimpleNamespace(library=library),
            restart=self.restarted.append,
            definitions="new",
            schema="s",
            run=self._run,
        )
        lock: Any = SimpleNamespace(write=self.written.append, refuse_lost_home=lambda: None)
        self.services = Services(
            address="",
            ledger=idle,
            supervisor=idle,
            pipeline=idle,
            say=self.said.append,
            postgres=None,
            backups=idle,
            senders=idle,
            lock=lock,
            running=RunningUp(1, "http://x"),
            scan_log=Path("scan.log"),
            definitions="old",
        )

    def _run(self, _of: object, _schema: str, kind: str) -> Any:
        if kind == AWAITED[0]:
            self.alive = self.states.pop(0)
        if isinstance(self.alive, Exception):
            raise self.alive
        return [kind] if kind in self.alive else []

    def check(self) -> None:
        """One look at the ledger, and the check that acts on what it found."""
        self.services.errand.due_at = float("-inf")
        self.services.check()
        self.services.errand.wait()
        self.services.errand.due_at = float("inf")
        self.services.check()


def test_stages_that_change_while_postgres_is_down_are_loaded_later_and_end_nothing() -> None:
    world = World(LedgerUnavailable("Postgres does not answer"), ())
    world.check()
    assert world.restarted == []
    world.check()
    assert world.restarted == ["code server"]


def test_stages_that_wait_for_running_work_are_shown_once_and_loaded_after_it() -> None:
    world = World(("scan", "extract", "run"), ("scan", "extract", "run"), ())
    world.check()
    world.check()
    assert world.said == [
        "Dagster's definitions changed. Its UI shows them when the running work has ended: scan, extract, run"
    ]
    assert world.written == [RunningUp(1, "http://x", reload_waits_for="scan, extract, run")]
    assert world.restarted == []
    world.check()
    assert world.restarted == ["code server"]
    assert world.written[-1] == RunningUp(1, "http://x")


@pytest.mark.parametrize(
    ("is_there", "reason"),
    [(False, "No such file or directory"), (True, "Is a directory")],
    ids=["removed", "replaced"],
)
def test_a_log_that_cannot_be_read_does_not_end_up(tmp_path: Path, is_there: bool, reason: str) -> None:
    world = World(())
    failed: Any = SimpleNamespace(poll=lambda: 1)
    world.services.first_scan, world.services.scan_log = failed, tmp_path if is_there else tmp_path / "scan.log"
    world.services.check()
    assert world.said == [f"The first scan failed (exit code 1): its log cannot be read: {reason}"]
    assert world.services.first_scan is None
    world.services.errand.wait()


ENTERED = """
import os, signal, sys
from pathlib import Path
from dagster_offload.service.processes import _code_socket
with _code_socket(Path(sys.argv[1])) as socket:
    socket.touch()
    print(socket, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_socket_that_a_killed_up_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, temporary = tmp_path / ("l" * 100), tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    killed = subprocess.run([sys.executable, "-c", ENTERED, home], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.parent.parent == temporary
    with processes._code_socket(home) as socket_file:
        assert list(temporary.iterdir()) == [socket_file.parent]
        with processes._code_socket(home / "another"):
            assert socket_file.parent.exists(), "another home leaves it alone"
    assert list(temporary.iterdir()) == []


@pytest.mark.rule("pipeline-5")
def test_a_missing_library_is_told_while_up_runs(tmp_path: Path) -> None:
    world = World((), library=tmp_path / "gone")
    world.services.check()
    assert world.services.library.errand is not None
    world.services.library.errand.wait()
    world.services.check()
    assert any(line.startswith(f"library: {tmp_path / 'gone'} cannot be listed") for line in world.said)
    world.services.errand.wait()


def test_an_edit_that_is_taken_back_while_work_runs_waits_for_nothing() -> None:
    world = World(("scan",))
    world.check()
    assert world.written[-1].reload_waits_for == "scan"
    services: Any = world.services
    services.pipeline.definitions = services.definitions
    world.check()
    assert world.written[-1].reload_waits_for == ""
    assert world.restarted == []


def test_a_ledger_that_does_not_answer_holds_up_no_check() -> None:
    world, answer, checks = World(), threading.Event(), list[str]()
    services: Any = world.services

    def wait_for_postgres() -> None:
        assert answer.wait(PATIENCE_SECONDS), "the check itself waits for the ledger"

    services.pipeline = SimpleNamespace(
        check=wait_for_postgres, settings=SimpleNamespace(library=None), definitions="old"
    )
    services.supervisor = SimpleNamespace(check=lambda: checks.append("checked"))
    for _ in range(3):
        services.check()
    assert not answer.is_set()
    assert checks == ["checked"] * 3
    answer.set()
    services.errand.wait()


def test_an_error_that_is_not_expected_ends_the_loop_of_up() -> None:
    services: Any = World().services
    services.pipeline = SimpleNamespace(check=lambda: 1 / 0, settings=SimpleNamespace(library=None), definitions="old")
    services.check()
    services.errand.wait()
    with pytest.raises(ZeroDivisionError):
        services.check()


PIPELINE = """
library: {path: %s}
on_record: {script: {command: ["true"]}}
"""


def test_a_start_that_fails_ends_the_senders(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, library = tmp_path / "home", tmp_path / "library"
    home.mkdir(mode=0o700)
    library.mkdir()
    (home / "offload.yaml").write_text(PIPELINE % library)
    (home / "offload.yaml").chmod(0o600)
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", ledger_url)

    def fail(services: Services, *_: object) -> None:
        services.senders.check(services.pipeline.settings)
        assert "sink-script" in names_of_threads()
        raise LedgerUnavailable("the UI did not start")

    monkeypatch.setattr(processes, "_start", fail)
    with (
        hold_up_lock(home) as lock,
        listen_for_ui("127.0.0.1", None) as listener,
        pytest.raises(LedgerUnavailable, match="did not start"),
        running_services(read_settings(), "127.0.0.1", listener, lock, StopRequest(), print),
    ):
        pass
    wait_for(lambda: "sink-script" not in names_of_threads(), "the end of the sender")


def names_of_threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}
