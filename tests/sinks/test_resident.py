"""The senders of a running `up`: woken by the ledger, replaced by an edit, ended by a stop."""

import logging
import threading
from collections.abc import Iterator

import psycopg
import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.sinks import deliveries
from dagster_offload.ledger.sinks import sinks as ledger_sinks
from dagster_offload.service.senders import RunningSenders
from dagster_offload.sinks import resident
from tests.sinks.conftest import Sinks
from tests.support.patience import PATIENCE_SECONDS
from tests.support.sink_servers import Answer, Request, serving


class Door:
    """A webhook whose requests are awaited one by one."""

    def __init__(self) -> None:
        self.documents: list[str] = []
        self.statuses: list[int] = []
        self._arrived = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def answer(self, request: Request) -> Answer:
        self.documents.append(request.json["document"])
        self._arrived.release()
        self.may_answer.wait(PATIENCE_SECONDS)
        return self.statuses.pop(0) if self.statuses else 200, None

    def next(self) -> str:
        assert self._arrived.acquire(timeout=PATIENCE_SECONDS)
        return self.documents[-1]


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def address(door: Door) -> Iterator[str]:
    with serving(door.answer) as address:
        yield address


@pytest.fixture
def running(sinks: Sinks) -> Iterator[RunningSenders]:
    said: list[str] = []
    running = RunningSenders(sinks.engine.ledger, said.append)
    yield running
    running.stop()
    assert said == []


def test_a_finished_record_wakes_the_sender(sinks: Sinks, running: RunningSenders, door: Door, address: str) -> None:
    sinks.use(hook={"webhook": address})
    running.check(sinks.engine.settings())
    sinks.answered("a.txt")
    assert door.next() == "a.txt"
    sinks.answered("b.txt")
    assert door.next() == "b.txt"


def test_a_person_who_resumes_a_sink_wakes_it_before_its_wait_is_over(
    sinks: Sinks, running: RunningSenders, door: Door, address: str
) -> None:
    sinks.use(hook={"webhook": address})
    door.statuses = [503] * 100
    running.check(sinks.engine.settings())
    sinks.answered("a.txt")
    door.next()
    sinks.engine.wait_until("select 1 from sinks where not_before is not null")
    sinks.engine.sql("update sinks set not_before = clock_timestamp() + interval '1 hour'")
    door.statuses.clear()
    sinks.engine.ledger.run(ledger_sinks.resume, "hook")
    sinks.engine.wait_until("select 1 from deliveries where state = 'sent'")


def test_records_wait_for_a_secret_that_cannot_be_read_and_are_sent_when_it_can(
    sinks: Sinks, door: Door, address: str
) -> None:
    said: list[str] = []
    secret = sinks.engine.library.parent / "token"
    sinks.use(hook={"webhook": address, "token_file": str(secret)})
    running = RunningSenders(sinks.engine.ledger, said.append)
    try:
        running.check(sinks.engine.settings())
        [line] = said
        assert f"Nothing is sent to the sink hook: on_record.hook.token_file: {secret} cannot be read" in line
        sinks.answered("a.txt")
        sinks.engine.wait_until("select 1 from sinks where reason like '%cannot be read%' and not_before is not null")
        secret.write_text("secret-1", encoding="utf-8")
        sinks.engine.ledger.run(ledger_sinks.try_now, "hook")
        assert door.next() == "a.txt"
    finally:
        running.stop()


def test_an_edit_of_a_sink_ends_its_wait_and_that_of_the_record_that_it_refused(
    sinks: Sinks, running: RunningSenders, door: Door, address: str
) -> None:
    sinks.use(hook={"webhook": address})
    running.check(sinks.engine.settings())
    door.statuses = [422]
    sinks.answered("a.txt")
    door.next()
    sinks.engine.wait_until("select 1 from deliveries where not_before is not null")
    sinks.use(hook={"webhook": f"{address}/elsewhere"})
    running.check(sinks.engine.settings())
    sinks.engine.wait_until("select 1 from deliveries where state = 'sent'")


def test_a_secret_that_was_set_is_used_at_once(
    sinks: Sinks, door: Door, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sinks.use(hook={"webhook": address, "token": "${HOOK_TOKEN}"})
    running = RunningSenders(sinks.engine.ledger, lambda _line: None)
    try:
        running.check(sinks.engine.settings())
        sinks.answered("a.txt")
        sinks.engine.wait_until("select 1 from sinks where reason like '%HOOK_TOKEN is not set%'")
        sinks.engine.sql("update sinks set not_before = clock_timestamp() + interval '1 hour'")
        monkeypatch.setenv("HOOK_TOKEN", "secret-1")
        running.check(sinks.engine.settings())
        sinks.engine.wait_until("select 1 from sinks where reason is null")
    finally:
        running.stop()
    assert door.documents == ["a.txt"]


def test_a_start_of_up_tries_a_sink_at_once_that_waits_for_a_setting(
    sinks: Sinks, running: RunningSenders, door: Door, address: str
) -> None:
    sinks.use(hook={"webhook": address})
    sinks.answered("a.txt")
    door.statuses = [401]
    assert sinks.send("hook").is_misconfigured
    sinks.engine.sql("update sinks set not_before = clock_timestamp() + interval '1 hour'")
    running.check(sinks.engine.settings())
    sinks.engine.wait_until("select 1 from deliveries where state = 'sent'")


def test_a_record_of_a_document_that_vanished_meanwhile_is_still_sent(
    sinks: Sinks, running: RunningSenders, door: Door, address: str
) -> None:
    sinks.use(hook={"webhook": address})
    door.statuses = [503]
    sinks.answered("a.txt")
    assert sinks.send("hook").waits == "HTTP 503"
    (sinks.engine.library / "a.txt").unlink(missing_ok=True)
    sinks.engine.sql("update documents set is_present = false")
    sinks.end_waits()
    running.check(sinks.engine.settings())
    sinks.engine.wait_until("select 1 from deliveries where state = 'sent'")
    assert door.documents == ["a.txt", "a.txt"]


def test_a_slow_sink_holds_up_no_other_and_an_edit_replaces_the_senders(
    sinks: Sinks, running: RunningSenders, door: Door, address: str
) -> None:
    fast = Door()
    with serving(fast.answer) as fast_address:
        sinks.use(fast={"webhook": fast_address}, slow={"webhook": address, "timeout": 2 * PATIENCE_SECONDS})
        running.check(sinks.engine.settings())
        door.may_answer.clear()
        sinks.answered("a.txt", "b.txt")
        assert door.next() == "a.txt"
        assert [fast.next(), fast.next()][-1] == "b.txt"
        door.may_answer.set()
        assert door.next() == "b.txt"
        sinks.engine.wait_until("select 1 from deliveries where state = 'sent' having count(*) = 4")
        sinks.use(fast={"webhook": fast_address})
        running.check(sinks.engine.settings())
        sinks.answered("c.txt")
        assert fast.next() == "c.txt"
        assert door.documents == ["a.txt", "b.txt"]


def test_a_stop_ends_a_program_that_still_runs(
    sinks: Sinks, running: RunningSenders, caplog: pytest.LogCaptureFixture
) -> None:
    sinks.use(script={"command": ["sh", "-c", "echo > started; sleep 600"]})
    running.check(sinks.engine.settings())
    sinks.answered("a.txt")
    sinks.engine.wait_until("select 1 from deliveries")
    started = sinks.engine.library.parent / "started"
    while not started.exists():
        sinks.engine.sql("select pg_sleep(0.02)")
    with caplog.at_level(logging.WARNING):
        running.stop()
    # Its time limit is 30 s; on a busy machine the killed program takes a moment to end.
    for thread in threading.enumerate():
        if thread.name == "sink-script":
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
    assert sinks.engine.sql("select attempts, state from deliveries") == [{"attempts": 0, "state": "pending"}]


class Slow:
    """A job that ends when `end` is set. `cancelled` is set when it should."""

    notified_on, pause = "nothing", 0.0

    def __init__(self, name: str, end: threading.Event) -> None:
        self.title = self.lock = name
        self.is_started, self.cancelled, self.end = threading.Event(), threading.Event(), end
        self.saw_end = False

    def run(self, is_stopped: object) -> float | None:
        self.is_started.set()
        self.saw_end = self.end.wait(PATIENCE_SECONDS / 4)
        return None

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_slow_sender_does_not_hold_up_the_stop_of_another(sinks: Sinks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "STOP_SECONDS", PATIENCE_SECONDS)
    other = Slow("other", threading.Event())
    slow = Slow("slow", other.cancelled)
    other.end.set()
    threads = [resident.SenderThread(sinks.engine.ledger, job) for job in (slow, other)]
    for job in (slow, other):
        assert job.is_started.wait(PATIENCE_SECONDS)
    resident.stop_all(threads)
    assert slow.saw_end


class Failing:
    """A job of two steps on one connection: the first uses the ledger, the second fails. After that, all steps succeed."""

    notified_on, pause = "nothing", 0.0
    title = lock = "failing"

    def __init__(self, ledger: Ledger, error: Exception) -> None:
        self.ledger, self.error = ledger, error
        self.steps = 0
        self.ran_again = threading.Event()

    def run(self, is_stopped: object) -> float | None:
        self.steps += 1
        if self.steps == 1:
            self.ledger.run(deliveries.seconds_to_next, "hook")  # Postgres is available
            return 0.0
        if self.steps == 2:
            raise self.error
        self.ran_again.set()
        return None

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (psycopg.OperationalError("server closed the connection"), "Postgres is unavailable at "),
        (
            psycopg.errors.ProgramLimitExceeded("row is too big\nDETAIL: Dear Ada"),
            "failing cannot use the ledger, will reconnect: row is too big",
        ),
    ],
)
def test_a_step_that_fails_on_a_connection_in_use_is_said(
    sinks: Sinks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    monkeypatch.setattr(resident, "RECONNECT_SECONDS", 0.01)
    job = Failing(sinks.engine.ledger, error)
    thread = resident.SenderThread(sinks.engine.ledger, job)
    assert job.ran_again.wait(PATIENCE_SECONDS)
    resident.stop_all([thread])
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith(line)
    assert "Ada" not in said


def test_without_a_sink_there_is_no_thread_and_no_connection(sinks: Sinks, running: RunningSenders) -> None:
    before = set(threading.enumerate())
    sinks.use()
    running.check(sinks.engine.settings())
    assert set(threading.enumerate()) <= before
