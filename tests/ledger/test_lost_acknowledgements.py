"""Postgres commits, but its confirmation is lost: every step that writes is still done once and returns the same value.

Each step runs in two equal ledgers. In one of them the connection ends between COMMIT and its confirmation.
"""

import contextlib
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.ledger.core import receipts, workers
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import Claim
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.ledger.slots.breaker import TrialEnd
from dagster_offload.ledger.work import claims, deferrals, documents, outbox, suspects
from dagster_offload.ledger.work import finish as results
from dagster_offload.ledger.work import redo as requests
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.testing import ChangeTiming
from tests.support.database import database_url, new_database
from tests.support.ledger import RECIPES, SLOT, Bench, call, record_result, text_result
from tests.support.stages import DRAIN_STAGES

Run = Callable[..., Any]  # `Ledger.run` of the ledger whose confirmation is lost, or of the other one


class Wire:
    """A proxy between a client and Postgres. After `lose_next_answer` is set, it ends the connection right after a commit."""

    def __init__(self, url: str, folder: str) -> None:
        to = conninfo_to_dict(url)
        self._host, self._port = str(to["host"]), int(to.get("port") or 5432)
        # The client checks whose process listens at the socket; here it is this test.
        self.url = libpq_url({name: value for name, value in to.items() if name != "requirepeer"} | {"host": folder})
        self.lose_next_answer = False
        self.lost = 0
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(Path(folder) / f".s.PGSQL.{self._port}"))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._carry, args=(client, self._connected()), daemon=True).start()

    def _connected(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(self._host) / f".s.PGSQL.{self._port}"))
        return server

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            while True:
                for sender in select.select([client, server], [], [])[0]:
                    data = sender.recv(1 << 16)
                    if not data:
                        return
                    (server if sender is client else client).sendall(data)
                    if sender is client and b"COMMIT\0" in data and self.lose_next_answer:
                        server.recv(1 << 16)  # Postgres has committed
                        self.lose_next_answer = False
                        self.lost += 1
                        return


@pytest.fixture(scope="module")
def two_ledgers(postgres_url: str, ledger_template: str) -> Iterator[tuple[Bench, Bench, Wire]]:
    with (
        new_database(postgres_url, ledger_template) as plain_name,
        new_database(postgres_url, ledger_template) as wired_name,
        tempfile.TemporaryDirectory(prefix="wire-", dir="/tmp") as folder,
        contextlib.closing(Wire(database_url(postgres_url, wired_name), folder)) as wire,
        Ledger(database_url(postgres_url, plain_name)) as plain,
        Ledger(wire.url) as wired,
    ):
        yield Bench(plain), Bench(wired), wire


@pytest.fixture
def alike(two_ledgers: tuple[Bench, Bench, Wire]) -> tuple[Bench, Bench, Wire]:
    """Two ledgers that each hold one slot and nothing else; the second is reached through the `Wire`."""
    for bench in two_ledgers[:2]:
        tables = ", ".join(tables_of(bench))
        bench.sql(f"truncate {tables} restart identity cascade")
        bench.sql("alter sequence claim_tokens restart")
        bench.ledger.run(slots.register, SLOT)
    two_ledgers[2].lost = 0
    return two_ledgers


# The steps: each prepares a ledger and returns the step that must be done once.

Step = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def step(function: Callable[..., Any], *arguments: Any, **options: Any) -> Step:
    return function, arguments, options


def held(bench: Bench, *stages: str) -> tuple[int, Claim]:
    bench.extracted("a.txt")
    worker = bench.worker()
    return worker, bench.hold(worker, stages or DRAIN_STAGES)


def take(bench: Bench) -> Step:
    bench.extracted("a.txt", "b.txt")
    return step(claims.take, bench.worker(), DRAIN_STAGES, RECIPES, count=1)


def release(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(claims.release, worker, claim, "given back")


def postpone(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(claims.postpone, worker, claim, "later", 60.0)


def finish(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(results.finish, worker, [results.Finish(claim, claim.items[0], record_result("words"))], RECIPES, None)


def finish_text(bench: Bench) -> Step:
    bench.put("a.txt")
    worker = bench.worker("scan")
    claim = bench.hold(worker, [EXTRACT])
    return step(results.finish, worker, [results.Finish(claim, claim.items[0], text_result("text"))], RECIPES, None)


def finish_again(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    bench.ledger.run(claims.release, worker, claim, "for the redo")
    bench.redo([claim.items[0].stage], ["a.txt"])
    again = bench.hold(worker)
    return step(
        results.finish, worker, [results.Finish(again, again.items[0], record_result("other words"))], RECIPES, None
    )


def record_call(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(results.record_call, worker, claim, claim.items[0], call())


def defer(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(deferrals.open_and_defer, worker, claim, claim.items[0], call(1, "cold"), "cold", None, 60.0)


def slot_fault(bench: Bench) -> Step:
    worker, claim = held(bench)
    return step(suspects.suspect, worker, claim, claim.items[0], call(1, "http_500"), "500")


def fail(bench: Bench) -> Step:
    worker, claim = held(bench)
    fault = call(1, "empty_answer")
    return step(deferrals.fail, worker, claim, claim.items[0], "empty_answer", "why", fault, is_final=False)


def note_cut(bench: Bench) -> Step:
    _, claim = held(bench)
    return step(suspects.note_cut, DEEP, 1, claim.items[0], "cut")


def suspect(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.ledger.run(suspects.note_cut, DEEP, 1, claim.items[0], "cut")
    bench.close_breaker()
    return step(suspects.suspect, worker, claim, claim.items[0], call(1, "cut"), "cut")


def acquire(bench: Bench) -> Step:
    return step(permits.acquire, DEEP, bench.worker(), is_person=False)


def acquire_the_last(bench: Bench) -> Step:
    bench.acquire(bench.worker())
    return step(permits.acquire, DEEP, bench.worker(), is_person=False)


def release_permit(bench: Bench) -> Step:
    worker = bench.worker()
    bench.acquire(worker)
    bench.acquire(worker)
    return step(permits.release, DEEP, worker)


def give_up(bench: Bench) -> Step:
    worker = bench.worker()
    bench.acquire(worker)
    bench.acquire(worker)
    bench.acquire(bench.worker("run"), is_person=True)
    return step(permits.give_up_if_wanted, DEEP, worker, is_person=False)


def open_breaker(bench: Bench) -> Step:
    return step(breaker.open_breaker, DEEP, 1, "cold", None)


def busy(bench: Bench) -> Step:
    bench.ledger.run(breaker.count_busy, DEEP, 1, None)
    return step(breaker.count_busy, DEEP, 1, None)


def opened(bench: Bench) -> int:
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "cold", None, at_once=True)
    return bench.worker()


def begin_trial(bench: Bench) -> Step:
    return step(breaker.begin_trial, DEEP, opened(bench), 1)


def trial_answered(bench: Bench) -> Step:
    worker = opened(bench)
    bench.ledger.run(breaker.begin_trial, DEEP, worker, 1)
    return step(breaker.end_trial, DEEP, worker, 1, TrialEnd(True, "ok"))


def trial_refused(bench: Bench) -> Step:
    worker = opened(bench)
    bench.ledger.run(breaker.begin_trial, DEEP, worker, 1)
    return step(breaker.end_trial, DEEP, worker, 1, TrialEnd(False, "warming"))


def register_worker(bench: Bench) -> Step:
    return step(workers._register, "drain", DRAIN_STAGES, None)


def deregister(bench: Bench) -> Step:
    worker, _ = held(bench)
    bench.acquire(worker)
    return step(workers._deregister, worker)


def reclaim(bench: Bench) -> Step:
    worker, _ = held(bench)
    bench.acquire(worker)
    bench.sql("update workers set heartbeat_at = heartbeat_at - interval '1 hour' where worker_id = %s", worker)
    return step(workers._reclaim, worker, counts=True)


def retry(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.fail(worker, claim, is_final=True)
    return step(requests.retry, DRAIN_STAGES)


def redo(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    return step(requests.redo, requests.Redo({claim.items[0].stage: "new"}))


def redo_outdated(bench: Bench) -> Step:
    worker, claim = held(bench)
    bench.finish(worker, claim)
    return step(requests.redo, requests.Redo({**RECIPES, claim.items[0].stage: "new"}, only_outdated=True))


def gone(bench: Bench) -> Step:
    held(bench)
    return step(documents.mark_gone, ["a.txt"])


def begin_scan(bench: Bench) -> Step:
    return step(documents.begin_scan)


def report_under_run(bench: Bench) -> Step:
    bench.extracted("a.txt")
    return step(outbox.report_under_run, "run", ["a.txt"], [EXTRACT])


STEPS = (
    take, release, postpone, finish, finish_text, finish_again, record_call, defer, slot_fault, fail, note_cut, suspect,
    acquire, acquire_the_last, release_permit, give_up, open_breaker, busy, begin_trial, trial_answered, trial_refused,
    register_worker, deregister, reclaim, retry, redo, redo_outdated, gone, begin_scan, report_under_run,
)  # fmt: skip


@pytest.mark.rule("ledger-9")
@pytest.mark.parametrize("prepare", STEPS, ids=lambda prepare: prepare.__name__)
def test_a_step_whose_commit_is_not_confirmed_is_done_once(
    alike: tuple[Bench, Bench, Wire], prepare: Callable[[Bench], Step]
) -> None:
    plain, wired, wire = alike
    returned = []
    for bench in (plain, wired):
        function, arguments, options = prepare(bench)
        wire.lose_next_answer = bench is wired
        returned.append(bench.ledger.run(function, *arguments, **options))

    assert wire.lost == 1
    assert _shown(returned[1]) == _shown(returned[0])
    assert everything(wired) == everything(plain)


def test_a_step_that_was_not_committed_is_done_again(alike: tuple[Bench, Bench, Wire]) -> None:
    _, bench, _ = alike
    attempts = []

    def killed_before_its_commit(cur: Any) -> int:
        attempts.append(workers._register(cur, "drain", (), None))
        if len(attempts) == 1:
            bench.sql("select pg_terminate_backend(%s)", cur.connection.info.backend_pid)
        return attempts[-1]

    worker = bench.ledger.run(killed_before_its_commit)

    assert len(attempts) == 2
    assert [row["worker_id"] for row in bench.sql("select worker_id from workers")] == [worker]


def test_a_step_frozen_until_postgres_ended_its_transaction_is_done_again(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    change_timing(ledger_patience=0.05)
    worker, lives = bench.worker(), []

    def frozen_once(cur: Any) -> None:
        lives.append(workers.lock_alive(cur, worker))
        if len(lives) == 1:
            cur.execute("set local idle_in_transaction_session_timeout = '100ms'")
            while bench.sql("select 1 from pg_stat_activity where pid = %s", cur.connection.info.backend_pid):
                pass
            bench.die(worker)
        cur.execute("select 1")

    bench.ledger.run(frozen_once)

    assert lives == [True, False]


def test_there_is_one_receipt_per_thread_and_old_ones_are_removed(bench: Bench) -> None:
    def write_three_times() -> None:
        for _ in range(3):
            bench.worker()

    for _ in range(2):
        thread = threading.Thread(target=write_three_times)
        thread.start()
        thread.join()
    assert len(bench.sql("select author from receipts where step = 3")) == 2

    bench.sql("update receipts set left_at = left_at - make_interval(mins => %s)", receipts.KEPT_MINUTES + 1)
    bench.worker()
    assert len(bench.sql("select author from receipts")) == 1


def tables_of(bench: Bench) -> dict[str, str]:
    """The ledger's tables, each with its columns that do not differ: without times, and the order of a step's transitions."""
    rows = bench.sql(
        "select c.table_name as name, string_agg(quote_ident(column_name), ',' order by ordinal_position) as columns "
        "from information_schema.columns c join information_schema.tables t using (table_schema, table_name) "
        "where table_schema = current_schema() and table_type = 'BASE TABLE' "
        "and table_name not in ('migrations', 'applied_sql', 'stages') "
        "and data_type not like 'timestamp%' and (c.table_name, column_name) <> ('transitions', 'transition_id') group by 1"
    )
    return {row["name"]: row["columns"] for row in rows}


def everything(bench: Bench) -> dict[str, list[str]]:
    """The contents of all tables except the receipts."""
    return {
        name: sorted(repr(tuple(row.values())) for row in bench.sql(f"select {columns} from {name}"))  # noqa: S608 - constant names
        for name, columns in tables_of(bench).items()
        if name != "receipts"
    }


def _shown(returned: object) -> str:
    """The return value of a step, without a slot's times."""
    fields = {
        name: value for name, value in getattr(returned, "__dict__", {}).items() if not name.endswith(("_at", "_since"))
    }
    return repr(fields or returned)
