"""What a killed server, a killed door, a killed initdb and a reused process id leave behind: a home that works."""

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import Worker, live_workers
from dagster_offload.postgres import is_running, server_pid, stop_postgres
from dagster_offload.postgres.embedded import server
from dagster_offload.postgres.embedded.locks import wait_until
from dagster_offload.postgres.embedded.paths import NAME, Paths
from dagster_offload.service.postgres_keeper import kept_alive
from dagster_offload.settings import load_settings
from dagster_offload.stages.graph import GRAPH
from dagster_offload.testing import ChangeTiming
from tests.support.database import WITHOUT_FSYNC
from tests.support.postgres import Door

Start = Callable[[Path], str]


def kill_server(home: Path, how: signal.Signals = signal.SIGKILL) -> int:
    pid = server_pid(home)
    assert pid is not None
    psutil.Process(pid).send_signal(how)
    assert wait_until(lambda: not is_running(home), 20)
    return pid


def test_door_after_a_killed_server_recovers_what_was_committed(home: Path) -> None:
    with psycopg.connect(server.ensure_embedded(home)) as conn:
        conn.execute("create table kept as select 7 as number")
    before = kill_server(home)

    with psycopg.connect(server.ensure_embedded(home)) as conn:
        assert conn.execute("select number from kept").fetchone() == (7,)
    assert server_pid(home) != before


def test_work_under_way_starts_a_killed_server_again(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, Worker(ledger, "drain") as worker:
        before = kill_server(home)

        assert [row.worker_id for row in ledger.run(live_workers, ledger.schema)] == [worker.id]
        assert server_pid(home) != before


def test_worker_in_a_long_call_starts_a_killed_server_again(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, Worker(ledger, "drain"):
        before = kill_server(home)

        assert wait_until(lambda: server_pid(home) not in (None, before), 30)  # its heartbeat alone asks for it


def test_job_in_a_terminal_has_a_killed_server_started_again_while_it_only_talks_to_dagster(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, kept_alive(home, ledger.revive):
        before = kill_server(home)

        assert wait_until(lambda: server_pid(home) not in (None, before), 30)


def test_door_that_comes_while_a_killed_server_falls_apart_waits_for_its_end(home: Path, start: Start) -> None:
    start(home)
    pid = server_pid(home)
    assert pid is not None
    checkpointer = next(p for p in psutil.Process(pid).children() if "checkpointer" in p.cmdline()[0])
    checkpointer.suspend()  # a child that outlives its parent
    psutil.Process(pid).kill()
    words: list[str] = []
    told = threading.Event()

    def tell(message: str) -> None:
        words.append(message)
        told.set()

    door = threading.Thread(
        target=server.ensure_embedded, args=(home,), kwargs={"options": WITHOUT_FSYNC, "tell": tell}
    )
    door.start()
    assert told.wait(20)
    assert server_pid(home) is None, "two servers on one data folder"
    checkpointer.resume()
    door.join(30)

    assert words[0].startswith("waiting for Postgres")
    assert server_pid(home) not in (None, pid)


@pytest.fixture
def gated_recovery(home: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], Path]:
    """A killed server whose recovery ends only when a file is there: its options, and that file."""
    start(home)
    kill_server(home)
    # An archive recovery whose next file comes only when the test says so: Postgres stays "starting up".
    gate = home.parent / "gate"
    home.parent.chmod(0o777)
    (home / "postgres" / "data" / "recovery.signal").touch(0o666)
    wait = f"while [ ! -e {gate} ]; do sleep 0.05; done; false"
    monkeypatch.setattr(server, "TELL_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(server, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(server, "REFUSAL_SECONDS", 0.3)
    monkeypatch.setattr(server, "TELL_EVERY_SECONDS", 0.4)
    # An archive recovery answers readers before it is over; the recovery after a crash, which this stands for, does not.
    return WITHOUT_FSYNC | {"restore_command": wait, "hot_standby": "off"}, gate


def test_long_recovery_is_waited_for_and_told(home: Path, gated_recovery: tuple[dict[str, str], Path]) -> None:
    options, gate = gated_recovery
    words: list[str] = []

    def tell(message: str) -> None:
        words.append(message)
        if len(words) == 3:
            gate.touch()

    url = server.ensure_embedded(home, options=options, tell=tell)

    assert "the database system is starting up" in words[2]
    with psycopg.connect(url) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)


def test_work_under_way_outlasts_a_recovery_longer_than_its_patience(
    home: Path,
    gated_recovery: tuple[dict[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    change_timing: ChangeTiming,
) -> None:
    options, gate = gated_recovery
    change_timing(ledger_patience=1.0)
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.2)
    words: list[str] = []

    def revive() -> None:
        server.ensure_embedded(home, options=options, tell=tell)

    def tell(message: str) -> None:
        words.append(message)
        if len(words) == 5:  # after 1.7 s
            gate.touch()

    with Ledger(server._url(Paths(home), NAME), revive=revive) as ledger:
        migrate(ledger, GRAPH)

    assert len(words) >= 5


def test_stop_during_a_recovery_ends_the_server_and_the_waiting_door(home: Path, start: Start) -> None:
    start(home)
    kill_server(home)
    (home / "postgres" / "data" / "recovery.signal").touch(0o666)
    options = WITHOUT_FSYNC | {"restore_command": "sleep 600"}
    told = threading.Event()
    errors: list[LedgerUnavailable] = []

    def wait() -> None:
        try:
            server.ensure_embedded(home, options=options, tell=lambda _message: told.set())
        except LedgerUnavailable as error:
            errors.append(error)

    door = threading.Thread(target=wait)
    door.start()
    assert told.wait(30)

    assert stop_postgres(home) is True
    door.join(10)
    assert not door.is_alive()
    assert len(errors) == 1


def test_foreign_process_under_the_old_pid_survives_and_does_not_stop_the_start(
    home: Path, start: Start, foreign_process: "subprocess.Popen[bytes]"
) -> None:
    start(home)
    kill_server(home)
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(foreign_process.pid), *lines[1:]]) + "\n")

    assert not is_running(home)
    assert server_pid(home) is None
    assert stop_postgres(home) is False
    start(home)
    assert stop_postgres(home) is True

    assert foreign_process.poll() is None


def test_another_homes_server_under_the_old_pid_survives_and_does_not_stop_the_start(
    home: Path, short_folder: Path, start: Start
) -> None:
    other = short_folder / "other"
    start(other)
    others_pid = server_pid(other)
    start(home)
    kill_server(home)
    pid_file = home / "postgres" / "data" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(others_pid), *lines[1:]]) + "\n")

    assert server_pid(home) is None
    assert stop_postgres(home) is False
    start(home)
    assert stop_postgres(home) is True

    assert server_pid(other) == others_pid


@pytest.mark.parametrize("who", ["door and initdb", "door only"])
def test_initdb_killed_half_way_leaves_a_home_that_works(home: Path, start: Start, door: Door, who: str) -> None:
    process = door(home, "ensure()")
    postgres = home / "postgres"
    assert wait_until(lambda: any(postgres.glob("data-new-*/data/base")), 30)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    if who == "door and initdb":
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):  # it came and went
                child.kill()
    assert not (postgres / "data").exists()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert list(postgres.glob("data-new-*")) == []


@pytest.mark.parametrize("step", ["check_major_version", "write_access_rules", "spawn", "_knock", "_create_database"])
def test_first_door_killed_at_any_later_step_leaves_a_home_that_works(
    home: Path, start: Start, door: Door, step: str
) -> None:
    process = door(home, f"embedded.{step} = lambda *_: (print('there', flush=True), time.sleep(600)); ensure()")
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    process.kill()
    process.wait()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_door_killed_right_after_the_start_leaves_a_server_that_others_find(
    home: Path, start: Start, door: Door
) -> None:
    start(home)
    stop_postgres(home)
    process = door(home, "embedded._knock = lambda *_: (print('started', flush=True), time.sleep(600)); ensure()")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.wait()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_home_deleted_under_a_running_server_can_be_used_again(home: Path, start: Start) -> None:
    start(home)
    pid = server_pid(home)
    assert pid is not None
    orphan = psutil.Process(pid)
    try:
        shutil.rmtree(home)

        with psycopg.connect(start(home)) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        assert server_pid(home) != pid
    finally:
        orphan.send_signal(signal.SIGQUIT)
