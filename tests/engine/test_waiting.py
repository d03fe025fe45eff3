"""The wait of a run: what ends it, what does not, and the resources it holds."""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from dagster_offload.engine import waiting
from dagster_offload.engine.waiting import WaitEnd, reason_to_continue, wait_for_work
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Connection, Cursor, Ledger
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.slots import rests
from dagster_offload.ledger.work import waiting_runs
from dagster_offload.ledger.work.waiting_runs import WaitingRun
from dagster_offload.slot.config import DEEP
from dagster_offload.slot.rest import Rest, RestKind
from tests.support.engine import Engine
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES

LONG = 3600.0


@pytest.mark.parametrize(
    ("slot", "breaker", "is_done", "expected"),
    [
        (DEEP, BreakerState.OPEN, False, None),
        (DEEP, BreakerState.MISCONFIGURED, False, None),
        (DEEP, BreakerState.CLOSED, False, WaitEnd.SLOT_ANSWERS),
        (DEEP, BreakerState.OPEN, True, WaitEnd.DOCUMENTS_DONE),
        (DEEP, BreakerState.CLOSED, True, WaitEnd.DOCUMENTS_DONE),
        (DEEP, None, False, None),  # the slot was forgotten
        (None, None, False, None),
        (None, None, True, WaitEnd.DOCUMENTS_DONE),
    ],
)
def test_a_wait_ends_when_the_slot_answers_or_the_documents_are_done(
    slot: str | None, breaker: BreakerState | None, is_done: bool, expected: WaitEnd | None
) -> None:
    assert reason_to_continue(WaitingRun("why", slot, breaker, is_done)) is expected


@pytest.mark.rule("rest-6")
@pytest.mark.parametrize(("is_rest_over", "expected"), [(False, None), (True, WaitEnd.REST_IS_OVER)])
def test_a_wait_for_a_rest_ends_with_the_rest(is_rest_over: bool, expected: WaitEnd | None) -> None:
    assert reason_to_continue(WaitingRun("why", None, None, False, is_rest_over)) is expected


def test_a_wait_for_a_held_stage_goes_on_although_the_slot_answers() -> None:
    assert reason_to_continue(WaitingRun("why", DEEP, BreakerState.CLOSED, False, is_held=True)) is None


def test_a_wait_without_a_row_in_the_ledger_ends_only_by_time() -> None:
    assert reason_to_continue(None) is None


class Wait:
    """A run that waits in a thread with its own connections."""

    def __init__(self, engine: Engine, seconds: float = LONG) -> None:
        self.engine = engine
        self.is_stopped = False
        self.opened: list[Ledger] = []
        self.end: Future[WaitEnd] = engine.beside(wait_for_work, self.open, "run", seconds, lambda: self.is_stopped)

    @contextmanager
    def open(self) -> Iterator[Ledger]:
        with Ledger(self.engine.ledger.conninfo) as ledger:
            self.opened.append(ledger)
            yield ledger

    @property
    def backends(self) -> list[int]:
        """The process ids of the server's idle connections that listen."""
        rows = self.engine.sql(
            "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and state = 'idle' and query like '%%waiting_runs%%'"
        )
        return [row["pid"] for row in rows]

    def sleeps(self) -> "Wait":
        """Wait until it has read the ledger and sleeps."""
        while not self.backends:
            assert not self.end.done(), self.end.result()
        return self


@pytest.fixture
def begin(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Wait]]:
    """Start a wait for a.txt at an unavailable slot. Only notifications wake it: its regular check is an hour later."""
    monkeypatch.setattr(waiting, "CHECK_EVERY_SECONDS", LONG)
    monkeypatch.setattr(waiting, "CHECK_STOP_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "RECONNECT_SECONDS", 0.05)
    engine.texts("a.txt")
    worker = engine.worker()
    engine.defer(worker, engine.hold(worker))
    engine.ledger.run(waiting_runs.put, "run", ["a.txt"], DRAIN_STAGES, DEEP, "deep is unavailable")
    begun: list[Wait] = []

    def begin_one() -> Wait:
        begun.append(Wait(engine))
        return begun[-1]

    yield begin_one
    for one in begun:
        one.is_stopped = True
        one.end.result(timeout=PATIENCE_SECONDS)


def test_a_closing_breaker_ends_the_wait(engine: Engine, begin: Callable[[], Wait]) -> None:
    wait = begin().sleeps()
    engine.close_breaker()
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.SLOT_ANSWERS


def test_documents_done_and_recorded_by_a_drain_end_the_wait(engine: Engine, begin: Callable[[], Wait]) -> None:
    wait = begin().sleeps()
    engine.sql("update work_items set state = 'done'")  # by a drain whose slot became unavailable again
    engine.ledger.run(outbox.mark_reported, [])
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.DOCUMENTS_DONE


def test_documents_done_without_a_notification_end_the_wait_at_the_next_check(
    engine: Engine, begin: Callable[[], Wait], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHECK_EVERY_SECONDS", 0.2)
    wait = begin().sleeps()
    engine.sql("update work_items set state = 'done'")
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.DOCUMENTS_DONE


def test_other_notifications_do_not_end_the_wait(
    engine: Engine, begin: Callable[[], Wait], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, find = threading.Semaphore(0), waiting_runs.find

    def find_and_note(cur: Cursor, run_id: str) -> WaitingRun | None:
        looks.release()
        return find(cur, run_id)

    monkeypatch.setattr(waiting_runs, "find", find_and_note)
    wait = begin().sleeps()
    assert looks.acquire(timeout=PATIENCE_SECONDS)
    engine.sql("select pg_notify(%s, 'freed')", engine.ledger.channel)
    engine.sql("select pg_notify(%s, 'breaker:deep')", engine.ledger.channel)
    assert looks.acquire(timeout=PATIENCE_SECONDS), "it looks again, and the breaker is still open"
    wait.is_stopped = True
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.STOPPED


def test_a_stop_ends_the_wait(begin: Callable[[], Wait]) -> None:
    wait = begin().sleeps()
    wait.is_stopped = True
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.STOPPED


def test_the_wait_ends_when_its_time_is_up(engine: Engine, begin: Callable[[], Wait]) -> None:
    assert Wait(engine, seconds=0.1).end.result(timeout=PATIENCE_SECONDS) is WaitEnd.TIME_IS_UP


def test_a_waiting_run_sleeps_between_checks(begin: Callable[[], Wait], monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    sleep = waiting._has_input

    def note_and_sleep(connection: Connection, seconds: float) -> bool:
        sleeps.append(seconds)
        return sleep(connection, seconds)

    monkeypatch.setattr(waiting, "_has_input", note_and_sleep)
    wait = begin()
    wait_for_work(wait.open, "run", LONG, lambda: len(sleeps) >= 4)
    assert set(sleeps) == {waiting.CHECK_STOP_SECONDS}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (psycopg.OperationalError("server closed the connection"), "Postgres is unavailable at "),
        (psycopg.errors.ProgramLimitExceeded("too many"), "run run is waiting and cannot use the ledger, "),
    ],
)
def test_a_check_that_fails_after_another_one_is_said(
    begin: Callable[[], Wait],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    line: str,
) -> None:
    found: list[WaitingRun | Exception] = [
        WaitingRun("why", DEEP, BreakerState.OPEN, False),
        error,
        WaitingRun("why", DEEP, BreakerState.CLOSED, False),
    ]

    def find(*_: object) -> WaitingRun:
        row = found.pop(0)
        if isinstance(row, Exception):
            raise row
        return row

    monkeypatch.setattr(waiting, "CHECK_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(waiting_runs, "find", find)
    assert begin().end.result(timeout=PATIENCE_SECONDS) is WaitEnd.SLOT_ANSWERS
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith(line)


def test_a_waiting_run_holds_one_connection_no_worker_and_no_claim(engine: Engine, begin: Callable[[], Wait]) -> None:
    wait = begin()
    workers = engine.sql("select count(*) as n from workers")
    before = connections(engine)
    wait.sleeps()
    assert connections(engine) <= before + 1
    assert len(wait.backends) == 1
    assert engine.sql("select count(*) as n from workers") == workers
    assert engine.sql("select 1 from work_items where state = 'claimed'") == []


def connections(engine: Engine) -> int:
    [row] = engine.sql(
        "select count(*) as n from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
    )
    return int(row["n"])


def test_a_lost_connection_does_not_end_the_wait(engine: Engine, begin: Callable[[], Wait]) -> None:
    wait = begin().sleeps()
    [lost] = wait.backends
    engine.sql("select pg_terminate_backend(%s)", lost)
    while wait.backends in ([], [lost]):
        assert not wait.end.done()
    engine.close_breaker()
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.SLOT_ANSWERS
    assert len(wait.opened) == 1, "the second connection is to the same server, which the wait did not start"


def test_a_waiting_run_retries_to_open_the_ledger(
    engine: Engine, begin: Callable[[], Wait], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = Wait.open, iter([True, True])

    def open_third_time(self: Wait) -> object:
        if next(failures, False):
            raise LedgerUnavailable("Postgres is down")
        return real(self)

    monkeypatch.setattr(Wait, "open", open_third_time)
    wait = begin().sleeps()
    engine.close_breaker()
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.SLOT_ANSWERS


@pytest.mark.rule("rest-6")
def test_a_run_that_waits_for_the_end_of_a_pause_continues_when_a_person_ends_it(
    engine: Engine, begin: Callable[[], Wait]
) -> None:
    engine.ledger.run(rests.pause, DEEP, None)
    deep = engine.settings().slots.deep
    assert deep is not None
    rest = engine.ledger.run(rests.read_rest, deep)
    engine.ledger.run(waiting_runs.put, "run", ["a.txt"], DRAIN_STAGES, None, "paused", rest)
    wait = begin().sleeps()
    engine.close_breaker()  # the slot answers, but its owner does not want it to be used
    engine.ledger.run(rests.pause, DEEP, None)
    wait.sleeps()
    assert not wait.end.done()
    engine.ledger.run(rests.resume, DEEP)
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.REST_IS_OVER


@pytest.mark.rule("rest-6")
def test_a_run_that_waits_for_the_hours_of_a_slot_continues_when_they_begin(
    engine: Engine, begin: Callable[[], Wait], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "CHECK_EVERY_SECONDS", 0.2)
    rest = Rest(DEEP, RestKind.OUTSIDE_HOURS, "outside its hours", datetime.now(UTC) + timedelta(hours=5))
    engine.ledger.run(waiting_runs.put, "run", ["a.txt"], DRAIN_STAGES, None, "outside its hours", rest)
    wait = begin().sleeps()
    engine.sql("update waiting_runs set rest_until = clock_timestamp()")
    assert wait.end.result(timeout=PATIENCE_SECONDS) is WaitEnd.REST_IS_OVER
