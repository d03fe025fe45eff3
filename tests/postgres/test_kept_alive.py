"""`up` restarts its Postgres when it ends, and reports it. It stops it at its end, also if it could not start."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import ensure_postgres, is_running, reason_to_restart, stop_postgres
from dagster_offload.service import postgres_keeper
from dagster_offload.service.home import hold_up_lock, keep_log_small
from dagster_offload.service.ports import listen_for_ui
from dagster_offload.service.postgres_keeper import KeptPostgres, kept_alive
from dagster_offload.service.processes import running_services
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.settings import Loaded, read_settings
from tests.support.patience import PATIENCE_SECONDS


def test_up_restarts_a_postgres_that_ended_and_names_its_log(tmp_path: Path) -> None:
    revived, messages = threading.Event(), list[str]()
    KeptPostgres(tmp_path, revived.set, messages.append).check()
    assert revived.wait(PATIENCE_SECONDS)
    assert messages == [f"Postgres ended; restarting it. Log: {tmp_path / 'postgres' / 'server.log'}"]


def test_up_says_once_that_it_restarts_a_postgres_that_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_keeper, "CHECK_EVERY_SECONDS", 0.0)
    tried, messages = threading.Semaphore(0), list[str]()
    kept = KeptPostgres(tmp_path, tried.release, messages.append)
    for _ in range(2):
        while not tried.acquire(blocking=False):
            kept.check()
    assert len(messages) == 1


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Postgres that ended, which cannot be read until it is removed: each access fails with an OSError."""
    monkeypatch.setattr(postgres_keeper, "CHECK_EVERY_SECONDS", 0.02)
    folder = tmp_path / "postgres"
    folder.symlink_to(folder)
    return folder


def test_up_checks_again_after_a_check_that_failed_and_says_so_once(tmp_path: Path, unreadable: Path) -> None:
    revived, messages = threading.Event(), list[str]()
    kept = KeptPostgres(tmp_path, revived.set, messages.append)
    for _ in range(2):
        kept.check()
        time.sleep(postgres_keeper.CHECK_EVERY_SECONDS)
    assert len(messages) == 1
    assert "Too many levels of symbolic links" in messages[0]
    unreadable.unlink()
    kept.check()
    assert revived.wait(PATIENCE_SECONDS)


def test_a_command_checks_again_after_a_check_that_failed(
    tmp_path: Path, unreadable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, revived, check = threading.Semaphore(0), threading.Event(), reason_to_restart

    def counted(home: Path) -> str | None:
        checked.release()
        return check(home)

    monkeypatch.setattr("dagster_offload.service.postgres_keeper.reason_to_restart", counted)
    with kept_alive(tmp_path, revived.set):
        for _ in range(2):
            assert checked.acquire(timeout=PATIENCE_SECONDS)
        unreadable.unlink()
        assert revived.wait(PATIENCE_SECONDS)


def test_the_log_of_a_postgres_that_runs_for_years_is_kept_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagster_offload.service.home.MAX_LOG_BYTES", 10)
    log = tmp_path / "postgres" / "server.log"
    log.parent.mkdir()
    with log.open("a") as server:
        server.write("a long line of the server")
        server.flush()
        KeptPostgres(tmp_path, lambda: None, lambda _message: None).check()
        server.write("next")
    assert log.read_text() == "next"
    assert log.with_suffix(".log.1").read_text() == "a long line of the server"


def test_the_copy_of_a_log_is_private_to_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_offload.service.home.MAX_LOG_BYTES", 10)
    log, older = tmp_path / "server.log", tmp_path / "server.log.1"
    umask = os.umask(0o022)  # as root, where the folder belongs to another account
    try:
        log.write_text("a long line of the server")
        keep_log_small(log)
        assert stat.S_IMODE(older.stat().st_mode) == 0o600
        older.chmod(0o644)  # an earlier version wrote it
        log.write_text("another line of the server")
        keep_log_small(log)
    finally:
        os.umask(umask)
    assert older.read_text() == "another line of the server"
    assert stat.S_IMODE(older.stat().st_mode) == 0o600


def test_a_copy_of_a_log_is_not_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_offload.service.home.MAX_LOG_BYTES", 10)
    log, other = tmp_path / "server.log", tmp_path / "other"
    log.write_text("a long line of the server")
    other.write_text("of another user")
    log.with_suffix(".log.1").symlink_to(other)  # the server's account may do this in its folder
    keep_log_small(log)
    assert other.read_text() == "of another user"
    assert log.read_text() == ""


@pytest.mark.parametrize("ran_before", [False, True])
def test_an_up_that_cannot_use_the_ledger_stops_the_postgres_that_it_started(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ran_before: bool
) -> None:
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    monkeypatch.setenv("OFFLOAD_LIBRARY", str(home.parent))
    loaded = read_settings()
    with open_ledger(loaded.settings) as ledger, ledger.transaction() as cur:
        cur.execute("insert into migrations (number, name) values (9999, 'of a newer version')")
    stop_postgres(home)
    if ran_before:
        ensure_postgres(loaded.settings)
    caplog.clear()
    with (
        hold_up_lock(home) as lock,
        listen_for_ui("127.0.0.1", None) as listener,
        pytest.raises(LedgerUnavailable, match="a newer dagster_offload wrote this ledger"),
        running_services(loaded, "127.0.0.1", listener, lock, StopRequest(), print),
    ):
        pass
    assert is_running(home) is ran_before
    assert "Started Postgres" not in caplog.text


def test_an_up_with_a_postgres_of_your_own_leaves_the_embedded_one_of_another_terminal_alone(
    home: Path, ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFLOAD_HOME", str(home))
    monkeypatch.setenv("OFFLOAD_LIBRARY", str(home.parent))
    embedded = read_settings().settings
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", ledger_url)

    def end_while_another_terminal_starts_the_embedded_one(_loaded: Loaded) -> Loaded:
        ensure_postgres(embedded)
        raise SettingsError("the end of `up`")

    with (
        hold_up_lock(home) as lock,
        listen_for_ui("127.0.0.1", None) as listener,
        pytest.raises(SettingsError, match="the end of `up`"),
        running_services(
            read_settings(),
            "127.0.0.1",
            listener,
            lock,
            StopRequest(),
            print,
            keep=end_while_another_terminal_starts_the_embedded_one,
        ),
    ):
        pass
    assert is_running(home)
