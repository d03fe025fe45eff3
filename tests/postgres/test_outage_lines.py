"""What a process says about an outage of Postgres: one line of ours, and none of the driver's."""

import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.postgres import stop_postgres
from dagster_offload.stages.graph import BUILT_IN
from dagster_offload.testing import ChangeTiming
from tests.support.acceptance import wait_for
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import held_port, port_of


def one(cur: Cursor) -> object:
    return cur.execute("select 1 as n").fetchone()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Without those of the embedded Postgres that is started: on a busy machine it says that it takes long."""
    found = [record for record in caplog.records if not record.name.startswith("dagster_offload.postgres.embedded")]
    return [record.getMessage() for record in found if record.levelno >= logging.WARNING]


def test_all_threads_together_say_one_line_about_an_outage_and_one_about_the_next(
    home: Path,
    start: Callable[[Path], str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.2)
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(start(home)))
        migrate(ledger, BUILT_IN)
        stack.enter_context(Worker(ledger, "drain"))
        threads = stack.enter_context(ThreadPoolExecutor(4))
        for outage in (1, 2):
            ledger.run(one)
            stop_postgres(home)
            tried = [threads.submit(ledger.run, one) for _ in range(4)]
            wait_for(lambda: bool(lines(caplog)), "the line")
            assert not any(each.done() for each in tried)
            start(home)
            assert [each.result(PATIENCE_SECONDS) for each in tried] == [{"n": 1}] * 4
            [line] = lines(caplog)
            assert line.startswith("Postgres is unavailable at "), f"outage {outage}"
            assert line.endswith("; retrying")
            caplog.clear()


def test_the_line_has_the_address_and_no_password(
    caplog: pytest.LogCaptureFixture, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_timing(ledger_patience=0.5)
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.2)
    with held_port() as port, Ledger(f"postgresql://ada:refused@127.0.0.1:{port}/offload") as ledger:
        with pytest.raises(LedgerUnavailable) as raised:
            ledger.run(one)
        [line] = lines(caplog)
        assert line.startswith(f"Postgres is unavailable at 127.0.0.1:{port}/offload (")
        assert "ada:" not in line
        assert "Connection ***" in line, "the password is masked wherever it stands"
        assert "refused" not in str(raised.value)


def test_closing_a_ledger_says_nothing_of_a_thread_that_waits_for_a_silent_server(
    caplog: pytest.LogCaptureFixture, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "psycopg")  # a command that was called in this process leaves out all of them
    change_timing(ledger_patience=0.5)
    monkeypatch.setattr("dagster_offload.ledger.core.database.CONNECT_SECONDS", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        place = f"127.0.0.1:{port_of(silent)}/offload"
        with Ledger(f"postgresql://{place}") as ledger, pytest.raises(LedgerUnavailable):
            ledger.run(one)
        [line] = lines(caplog)
        assert line.startswith(f"Postgres is unavailable at {place} (")
