"""The embedded server starts once, every process finds it, and it ends only on request."""

import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import ensure_postgres, is_running, server_pid, stop_postgres
from dagster_offload.postgres.embedded import postmaster
from dagster_offload.postgres.embedded.locks import server_lock, wait_until
from dagster_offload.settings import load_settings
from tests.support.patience import PATIENCE_SECONDS
from tests.support.postgres import RunProcess, checkpointer_of

Start = Callable[[Path], str]


def test_the_first_start_creates_a_database_in_utc_and_utf8_without_a_tcp_port(home: Path) -> None:
    url = ensure_postgres(load_settings(home=home))

    with psycopg.connect(url) as conn:
        row = conn.execute(
            "select current_database(), current_setting('timezone'), current_setting('server_encoding'),"
            " current_setting('listen_addresses'), lower('ÄÖ 한국어')"
        ).fetchone()
    assert row == ("offload", "UTC", "UTF8", "", "äö 한국어")
    assert psutil.Process(server_pid(home)).net_connections("inet") == []


def test_a_second_process_finds_the_running_server(home: Path, start: Start, run_process: RunProcess) -> None:
    url = start(home)
    pid = server_pid(home)

    other = run_process(home, "print(ensure())")

    assert other.communicate()[0].strip() == url
    assert server_pid(home) == pid


@pytest.mark.parametrize("callers", [2, 6])
def test_several_simultaneous_first_starts_share_one_server(home: Path, run_process: RunProcess, callers: int) -> None:
    body = """
sys.stdin.read(1)  # so that all start at once
with psycopg.connect(ensure()) as conn:
    print(conn.execute("select system_identifier, pg_postmaster_start_time() from pg_control_system()").fetchone())
"""
    processes = [run_process(home, body) for _ in range(callers)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()

    answers = {process.communicate()[0] for process in processes}

    assert [process.returncode for process in processes] == [0] * callers
    assert len(answers) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_server_survives_a_kill_of_the_process_group_that_started_it(
    home: Path, run_process: RunProcess, how: signal.Signals
) -> None:
    # A shell's `&` makes children ignore SIGINT, and these tests may run under one.
    restore_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    process = run_process(home, restore_ctrl_c + "print(ensure(), flush=True); sys.stdin.read()")
    assert process.stdout is not None
    url = process.stdout.readline().strip()

    os.killpg(process.pid, how)
    process.wait()

    with psycopg.connect(url) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    server = psutil.Process(server_pid(home))
    assert os.getsid(server.pid) != os.getsid(0)
    assert server.terminal() is None


def test_stop_ends_every_process_and_is_idempotent(home: Path, start: Start) -> None:
    conn = psycopg.connect(start(home))  # a client that keeps its connection
    server = psutil.Process(server_pid(home))
    processes = [server, *server.children()]

    assert is_running(home)
    assert stop_postgres(home) is True
    assert (
        psutil.wait_procs(processes, timeout=PATIENCE_SECONDS)[1] == []
    )  # a process releases its lock shortly before it ends
    assert not is_running(home)
    assert server_pid(home) is None
    assert stop_postgres(home) is False
    with pytest.raises(psycopg.OperationalError):
        conn.execute("select 1")
    conn.close()


def test_stop_of_a_home_that_does_not_exist_changes_nothing(home: Path) -> None:
    assert stop_postgres(home) is False
    assert not is_running(home)
    assert not home.exists()


def test_stop_requests_an_immediate_shutdown_after_a_fast_one_fails(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postmaster, "IMMEDIATE_STOP_SECONDS", 60.0)
    start(home)
    # A suspended child cannot end, so a fast shutdown waits for it forever.
    checkpointer = checkpointer_of(home)
    checkpointer.suspend()

    assert stop_postgres(home, within_seconds=61.5) is True  # the fast one gets half a second
    assert psutil.wait_procs([checkpointer], timeout=PATIENCE_SECONDS)[1] == []


def test_a_start_after_a_stop_keeps_the_data(home: Path, start: Start) -> None:
    with psycopg.connect(start(home)) as conn:
        conn.execute("create table kept as select 7 as number")
    stop_postgres(home)

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select number from kept").fetchone() == (7,)


def test_a_process_reports_that_it_waits_for_another_one(home: Path, start: Start, run_process: RunProcess) -> None:
    start(home)
    stop_postgres(home)
    body = "print(embedded.ensure_embedded(home, report=lambda message: print(message, flush=True)), flush=True)"

    with server_lock(home / "postgres" / "lock", on_wait=lambda: pytest.fail("no other process uses this home")):
        process = run_process(home, body)
        assert process.stdout is not None
        assert "waiting for another process to start Postgres" in process.stdout.readline()

    assert process.stdout.readline().startswith("postgresql://")


def test_variables_meant_for_another_server_are_ignored(home: Path, run_process: RunProcess) -> None:
    elsewhere = {
        "PGHOST": "db.invalid",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGUSER": "somebody",
        "PGPASSWORD": "secret",
        "PGDATABASE": "theirs",
        "PGOPTIONS": "-c search_path=theirs",
        "PGSSLMODE": "verify-full",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGCHANNELBINDING": "require",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATA": "/nonexistent",
        "PGTZ": "Asia/Seoul",
        "OFFLOAD_DEEP_API_KEY": "secret",
    }
    body = """
with psycopg.connect(ensure()) as conn:
    print(conn.execute("select current_user, current_database(), current_setting('search_path'),"
                       " current_setting('client_encoding')").fetchone())
"""

    output, _ = run_process(home, body, env=elsewhere).communicate()

    assert output.strip() == """('offload', 'offload', '"$user", public', 'UTF8')"""
    assert not elsewhere.keys() & psutil.Process(server_pid(home)).environ().keys()


def test_the_log_holds_neither_statements_nor_rows(home: Path, start: Start) -> None:
    with psycopg.connect(start(home), autocommit=True) as conn:
        conn.execute("create table texts (text text primary key check (text <> ''))")
        conn.execute("insert into texts values ('a private letter')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("insert into texts values ('a private letter')")
    log = home / "postgres" / "server.log"

    assert wait_until(lambda: "duplicate key" in log.read_text(), PATIENCE_SECONDS)
    assert "private" not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_another_major_version_is_refused_with_both_numbers(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    (home / "postgres" / "data" / "PG_VERSION").write_text("16\n")

    with pytest.raises(LedgerUnavailable, match=r"was created by PostgreSQL 16 and this release includes 18"):
        start(home)


def test_a_data_folder_without_its_version_is_not_overwritten(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    (home / "postgres" / "data" / "PG_VERSION").unlink()

    with pytest.raises(LedgerUnavailable, match="is not a Postgres data folder"):
        start(home)
    assert (home / "postgres" / "data" / "base").is_dir()


def test_the_error_for_a_broken_configuration_is_one_line_from_the_log(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    with (home / "postgres" / "data" / "postgresql.conf").open("a") as config:
        config.write("no_such_setting = 1\n")

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .*no_such_setting|configuration file") as caught:
        start(home)
    assert "\n" not in str(caught.value)
