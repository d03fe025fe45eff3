"""`up` restarts its Postgres when it ends, and reports it. It stops it at its end, also if it could not start."""

import os
import stat
import threading
from pathlib import Path

import pytest

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.postgres import ensure_postgres, is_running, stop_postgres
from dagster_offload.service.home import hold_up_lock, keep_log_small
from dagster_offload.service.ports import listen_for_ui
from dagster_offload.service.postgres_keeper import KeptPostgres
from dagster_offload.service.processes import running_services
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.settings import Loaded, read_settings
from tests.support.patience import PATIENCE_SECONDS


def test_up_restarts_a_postgres_that_ended_and_names_its_log(tmp_path: Path) -> None:
    revived, messages = threading.Event(), list[str]()
    KeptPostgres(tmp_path, revived.set, messages.append).check()
    assert revived.wait(PATIENCE_SECONDS)
    assert messages == [f"Postgres ended; restarting it. Log: {tmp_path / 'postgres' / 'server.log'}"]


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
