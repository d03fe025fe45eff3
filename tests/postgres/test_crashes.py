"""A home still works after a killed server, a killed caller, a killed initdb or a reused process id."""

import contextlib
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
from dagster_offload.stages.graph import BUILT_IN
from dagster_offload.testing import ChangeTiming
from tests.support.database import WITHOUT_FSYNC
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import RunProcess, checkpointer_of, remove_home

Start = Callable[[Path], str]


def kill_server(home: Path) -> int:
    pid = server_pid(home)
    assert pid is not None
    psutil.Process(pid).kill()
    assert wait_until(lambda: not is_running(home), PATIENCE_SECONDS)
    return pid


def test_the_next_start_after_a_killed_server_recovers_committed_rows(home: Path) -> None:
    with psycopg.connect(server.ensure_embedded(home)) as conn:
        conn.execute("create table kept as select 7 as number")
    before = kill_server(home)

    with psycopg.connect(server.ensure_embedded(home)) as conn:
        assert conn.execute("select number from kept").fetchone() == (7,)
    assert server_pid(home) != before


def test_work_in_progress_restarts_a_killed_server(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, Worker(ledger, "drain") as worker:
        before = kill_server(home)

        assert [row.worker_id for row in ledger.run(live_workers, ledger.schema)] == [worker.id]
        assert server_pid(home) != before


def test_a_worker_in_a_long_call_restarts_a_killed_server(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, Worker(ledger, "drain"):
        before = kill_server(home)

        assert wait_until(
            lambda: server_pid(home) not in (None, before), PATIENCE_SECONDS
        )  # only its heartbeat uses the database


def test_a_terminal_job_that_only_talks_to_dagster_restarts_a_killed_server(home: Path) -> None:
    with open_ledger(load_settings(home=home)) as ledger, kept_alive(home, ledger.revive):
        before = kill_server(home)

        assert wait_until(lambda: server_pid(home) not in (None, before), PATIENCE_SECONDS)


def test_a_start_waits_until_every_process_of_a_killed_server_has_ended(home: Path, start: Start) -> None:
    start(home)
    pid = server_pid(home)
    assert pid is not None
    checkpointer = checkpointer_of(home)
    checkpointer.suspend()  # a child that outlives its parent
    psutil.Process(pid).kill()
    messages: list[str] = []
    reported = threading.Event()

    def report(message: str) -> None:
        messages.append(message)
        reported.set()

    caller = threading.Thread(
        target=server.ensure_embedded, args=(home,), kwargs={"options": WITHOUT_FSYNC, "report": report}
    )
    caller.start()
    assert reported.wait(PATIENCE_SECONDS)
    assert server_pid(home) is None, "two servers on one data folder"
    checkpointer.resume()
    caller.join(PATIENCE_SECONDS)

    assert messages[0].startswith("waiting for Postgres")
    assert server_pid(home) not in (None, pid)


@pytest.fixture
def held_recovery(home: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, str], Path]:
    """A killed server whose recovery ends only when a file exists: its options, and that file."""
    start(home)
    kill_server(home)
    # This archive recovery waits for its next file until the test creates one. Until then Postgres is "starting up".
    release = home.parent / "release"
    home.parent.chmod(0o777)
    (home / "postgres" / "data" / "recovery.signal").touch(0o666)
    wait = f"while [ ! -e {release} ]; do sleep 0.05; done; false"
    monkeypatch.setattr(server, "REPORT_AFTER_SECONDS", 0.1)
    monkeypatch.setattr(server, "REFUSAL_SECONDS", 0.3)
    monkeypatch.setattr(server, "REPORT_EVERY_SECONDS", 0.4)
    # An archive recovery accepts readers before it ends; a crash recovery, which this test stands for, does not.
    return WITHOUT_FSYNC | {"restore_command": wait, "hot_standby": "off"}, release


def test_a_start_waits_for_a_long_recovery_and_reports_it(
    home: Path, held_recovery: tuple[dict[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    options, release = held_recovery
    messages: list[str] = []

    def report(message: str) -> None:
        if "the database system is starting up" not in message:
            return  # it does not listen yet
        messages.append(message)
        monkeypatch.setattr(server, "SILENCE_SECONDS", 0.3)
        if len(messages) == 3:
            release.touch()

    url = server.ensure_embedded(home, options=options, report=report)

    assert len(messages) >= 3
    with psycopg.connect(url) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (False,)


def test_work_in_progress_survives_a_recovery_longer_than_the_ledgers_patience(
    home: Path,
    held_recovery: tuple[dict[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    change_timing: ChangeTiming,
) -> None:
    options, release = held_recovery
    change_timing(ledger_patience=3.0)
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 1.0)
    messages: list[str] = []

    def revive() -> None:
        server.ensure_embedded(home, options=options, report=report)

    def report(message: str) -> None:
        messages.append(message)
        if len(messages) == 10:  # after 3.7 s
            release.touch()

    with Ledger(server._url(Paths(home), NAME), revive=revive) as ledger:
        migrate(ledger, BUILT_IN)

    assert len(messages) >= 10


def test_stop_during_a_recovery_ends_the_server_and_the_waiting_caller(home: Path, start: Start) -> None:
    start(home)
    kill_server(home)
    (home / "postgres" / "data" / "recovery.signal").touch(0o666)
    options = WITHOUT_FSYNC | {"restore_command": "sleep 600"}
    reported = threading.Event()
    errors: list[LedgerUnavailable] = []

    def wait() -> None:
        try:
            server.ensure_embedded(home, options=options, report=lambda _message: reported.set())
        except LedgerUnavailable as error:
            errors.append(error)

    caller = threading.Thread(target=wait)
    caller.start()
    assert reported.wait(PATIENCE_SECONDS)

    assert stop_postgres(home) is True
    caller.join(PATIENCE_SECONDS)
    assert not caller.is_alive()
    assert len(errors) == 1


def test_an_unrelated_process_with_the_old_pid_survives_and_does_not_block_the_start(
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


def test_another_homes_server_with_the_old_pid_survives_and_does_not_block_the_start(
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


@pytest.mark.parametrize("killed", ["caller and initdb", "caller only"])
def test_an_initdb_killed_half_way_leaves_a_home_that_works(
    home: Path, start: Start, run_process: RunProcess, killed: str
) -> None:
    process = run_process(home, "ensure()")
    postgres = home / "postgres"
    assert wait_until(lambda: any(postgres.glob("data-new-*/data/base")), PATIENCE_SECONDS)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    if killed == "caller and initdb":
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended already
                child.kill()
    assert not (postgres / "data").exists()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    assert list(postgres.glob("data-new-*")) == []


def test_a_first_start_killed_at_each_later_step_leaves_a_home_that_works(
    home: Path, start: Start, run_process: RunProcess
) -> None:
    # The start after each kill reaches the next step.
    for step in ("check_major_version", "write_access_rules", "spawn", "_try_connect", "_create_database"):
        process = run_process(
            home, f"embedded.{step} = lambda *_: (print('reached {step}', flush=True), time.sleep(600)); ensure()"
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"reached {step}\n"
        process.kill()
        process.wait()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_caller_killed_right_after_the_start_leaves_a_server_that_others_find(
    home: Path, start: Start, run_process: RunProcess
) -> None:
    start(home)
    stop_postgres(home)
    process = run_process(
        home, "embedded._try_connect = lambda *_: (print('started', flush=True), time.sleep(600)); ensure()"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.wait()

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)


def test_a_home_deleted_under_a_running_server_can_be_used_again(home: Path, start: Start) -> None:
    start(home)
    pid = server_pid(home)
    assert pid is not None
    orphan = psutil.Process(pid)
    try:
        remove_home(home)

        with psycopg.connect(start(home)) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        assert server_pid(home) != pid
    finally:
        orphan.send_signal(signal.SIGQUIT)
