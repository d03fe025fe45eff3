"""The embedded server as every door sees it: started once, found by all, ended only when asked."""

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
from dagster_offload.postgres.embedded.locks import server_lock, wait_until
from dagster_offload.settings import load_settings
from tests.support.postgres import Door

Start = Callable[[Path], str]


def test_first_start_makes_a_database_in_utc_and_utf8_without_a_tcp_port(home: Path) -> None:
    url = ensure_postgres(load_settings(home=home))

    with psycopg.connect(url) as conn:
        row = conn.execute(
            "select current_database(), current_setting('timezone'), current_setting('server_encoding'),"
            " current_setting('listen_addresses'), lower('ÄÖ 한국어')"
        ).fetchone()
    assert row == ("offload", "UTC", "UTF8", "", "äö 한국어")
    assert psutil.Process(server_pid(home)).net_connections("inet") == []


def test_second_door_finds_the_running_server(home: Path, start: Start, door: Door) -> None:
    url = start(home)
    pid = server_pid(home)

    other = door(home, "print(ensure())")

    assert other.communicate()[0].strip() == url
    assert server_pid(home) == pid


@pytest.mark.parametrize("doors", [2, 6])
def test_several_first_starts_at_once_share_one_server(home: Path, door: Door, doors: int) -> None:
    body = """
sys.stdin.read(1)  # all at once
with psycopg.connect(ensure()) as conn:
    print(conn.execute("select system_identifier, pg_postmaster_start_time() from pg_control_system()").fetchone())
"""
    processes = [door(home, body) for _ in range(doors)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()

    answers = {process.communicate()[0] for process in processes}

    assert [process.returncode for process in processes] == [0] * doors
    assert len(answers) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_server_outlives_the_killed_group_of_the_door_that_started_it(
    home: Path, door: Door, how: signal.Signals
) -> None:
    # A shell's `&` hands SIGINT down ignored, and these tests may run behind one.
    heeds_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    process = door(home, heeds_ctrl_c + "print(ensure(), flush=True); sys.stdin.read()")
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
    conn = psycopg.connect(start(home))  # a client that does not let go
    server = psutil.Process(server_pid(home))
    processes = [server, *server.children()]

    assert is_running(home)
    assert stop_postgres(home) is True
    assert psutil.wait_procs(processes, timeout=60)[1] == []  # a process gives its lock up a moment before it ends
    assert not is_running(home)
    assert server_pid(home) is None
    assert stop_postgres(home) is False
    with pytest.raises(psycopg.OperationalError):
        conn.execute("select 1")
    conn.close()


def test_stop_of_a_home_that_never_was_changes_nothing(home: Path) -> None:
    assert stop_postgres(home) is False
    assert not is_running(home)
    assert not home.exists()


def test_stop_after_the_fast_way_fails_stops_at_once(home: Path, start: Start) -> None:
    start(home)
    # A frozen child cannot end, so a fast shutdown waits for it for ever.
    checkpointer = next(p for p in psutil.Process(server_pid(home)).children() if "checkpointer" in p.cmdline()[0])
    checkpointer.suspend()

    assert stop_postgres(home, within_seconds=8) is True
    assert psutil.wait_procs([checkpointer], timeout=60)[1] == []


def test_start_after_stop_keeps_the_data(home: Path, start: Start) -> None:
    with psycopg.connect(start(home)) as conn:
        conn.execute("create table kept as select 7 as number")
    stop_postgres(home)

    with psycopg.connect(start(home)) as conn:
        assert conn.execute("select number from kept").fetchone() == (7,)


def test_door_says_that_it_waits_for_another_one(home: Path, start: Start, door: Door) -> None:
    start(home)
    stop_postgres(home)
    body = "print(embedded.ensure_embedded(home, tell=lambda words: print(words, flush=True)), flush=True)"

    with server_lock(home / "postgres" / "lock", on_wait=lambda: pytest.fail("nobody else is here")):
        process = door(home, body)
        assert process.stdout is not None
        assert "another process is starting Postgres" in process.stdout.readline()

    assert process.stdout.readline().startswith("postgresql://")


def test_variables_meant_for_another_server_do_not_leak_in(home: Path, door: Door) -> None:
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

    output, _ = door(home, body, env=elsewhere).communicate()

    assert output.strip() == """('offload', 'offload', '"$user", public', 'UTF8')"""
    assert not elsewhere.keys() & psutil.Process(server_pid(home)).environ().keys()


def test_log_holds_neither_statements_nor_rows(home: Path, start: Start) -> None:
    with psycopg.connect(start(home), autocommit=True) as conn:
        conn.execute("create table texts (text text primary key check (text <> ''))")
        conn.execute("insert into texts values ('a private letter')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute("insert into texts values ('a private letter')")
    log = home / "postgres" / "server.log"

    assert wait_until(lambda: "duplicate key" in log.read_text(), 10)
    assert "private" not in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_another_major_version_is_refused_with_both_numbers(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    (home / "postgres" / "data" / "PG_VERSION").write_text("16\n")

    with pytest.raises(LedgerUnavailable, match=r"was made by PostgreSQL 16 and this release brings 18"):
        start(home)


def test_data_folder_without_its_version_is_not_overwritten(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    (home / "postgres" / "data" / "PG_VERSION").unlink()

    with pytest.raises(LedgerUnavailable, match="is no Postgres data folder"):
        start(home)
    assert (home / "postgres" / "data" / "base").is_dir()


def test_broken_configuration_is_told_in_one_line_from_the_log(home: Path, start: Start) -> None:
    start(home)
    stop_postgres(home)
    with (home / "postgres" / "data" / "postgresql.conf").open("a") as config:
        config.write("no_such_setting = 1\n")

    with pytest.raises(LedgerUnavailable, match=r"OFFLOAD_HOME .*no_such_setting|configuration file") as caught:
        start(home)
    assert "\n" not in str(caught.value)
