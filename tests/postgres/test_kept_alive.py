"""`up` restarts its Postgres when it ends, and reports it."""

import threading
from pathlib import Path

import pytest

from dagster_offload.service.postgres_keeper import KeptPostgres
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
