"""Workers: deaths and what they cost, deregistration, and a real process killed with -9."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from dagster_offload.host.machine import boot_id, host_name
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.workers import Worker, live_workers, reclaim_dead
from dagster_offload.ledger.slots import permits
from dagster_offload.ledger.work import claims, ocr_pages
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.ledger import RECIPES, Bench
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES


@pytest.fixture
def a_free_lock_is_a_death(change_timing: ChangeTiming) -> None:
    """A free lock counts as a death at once, so tests need not wait for an old heartbeat."""
    change_timing(stale_heartbeat=0)
    change_timing(server_settled=0)


def reclaim(bench: Bench) -> list[int]:
    return bench.ledger.run(reclaim_dead, bench.ledger.schema)


def ended(bench: Bench, worker: int) -> bool:
    return bool(bench.sql("select 1 from workers where worker_id = %s and ended_at is not null", worker))


# Which workers are dead


def test_a_worker_registers_its_host_boot_and_process_and_is_live_until_it_deregisters(bench: Bench) -> None:
    with Worker(bench.ledger, "drain", DRAIN_STAGES, run_id="run-1") as worker:
        (row,) = bench.ledger.run(live_workers, bench.ledger.schema, "drain")
        assert (row.worker_id, row.host, row.boot_id, row.run_id) == (
            worker.id,
            host_name(),
            boot_id(),
            "run-1",
        )
        assert bench.ledger.run(live_workers, bench.ledger.schema, "run") == []
    assert bench.ledger.run(live_workers, bench.ledger.schema) == []


def test_an_expired_lease_is_a_death(bench: Bench, change_timing: ChangeTiming) -> None:
    worker = bench.worker()
    assert reclaim(bench) == []
    change_timing(lease=0)
    assert reclaim(bench) == [worker]
    assert reclaim(bench) == [], "a worker dies only once"


@pytest.mark.rule("ledger-7")
@pytest.mark.usefixtures("a_free_lock_is_a_death")
def test_a_free_lock_is_a_death_and_a_held_one_is_none(bench: Bench) -> None:
    dead = bench.worker()
    with Worker(bench.ledger, "drain") as alive:
        assert ended(bench, dead), "entering reclaims"
        assert not ended(bench, alive.id)
        assert reclaim(bench) == []


def test_a_free_lock_with_a_recent_heartbeat_or_a_restarted_server_is_no_death(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    bench.worker()
    change_timing(server_settled=0)
    assert reclaim(bench) == [], "a recent heartbeat"
    change_timing(stale_heartbeat=0)
    change_timing(server_settled=10**6)
    assert reclaim(bench) == [], "a restart frees all locks"


@pytest.mark.usefixtures("a_free_lock_is_a_death")
def test_locks_of_another_ledger_in_the_same_database_keep_no_worker_alive(bench: Bench, ledger_url: str) -> None:
    dead = bench.worker()
    with psycopg.connect(ledger_url, autocommit=True) as other:
        other.execute("select pg_advisory_lock(%s, %s)", [workers.lock_class("another"), dead])
        assert reclaim(bench) == [dead]


def test_every_heartbeat_reclaims_the_dead(bench: Bench, change_timing: ChangeTiming) -> None:
    change_timing(heartbeat=0.05)
    freed = threading.Event()
    with Worker(bench.ledger, "drain") as worker:
        worker.on_notify(lambda message: freed.set() if message == "freed" else None)
        dead = bench.worker()
        change_timing(stale_heartbeat=0)
        change_timing(server_settled=0)
        assert freed.wait(PATIENCE_SECONDS)
        assert ended(bench, dead)


# What is returned after a death, and what it costs


@pytest.mark.rule("ledger-7")
def test_claims_and_permits_of_dead_workers_are_returned_and_counted(bench: Bench) -> None:
    bench.extracted("a.txt")
    dead = bench.worker()
    bench.acquire(dead)
    claim = bench.hold(dead)
    bench.die(dead)
    for stage in (CLASSIFY, SUMMARIZE):
        item = bench.item("a.txt", stage)
        assert (item["state"], item["reclaims"], item["attempts"], item["lone_deaths"]) == ("pending", 1, 0, 0)
        assert item["reason"] == f"worker {dead} died"
    assert bench.sql("select 1 from permits") == []
    again = bench.hold(bench.worker())
    assert again.token > claim.token


def test_after_two_deaths_a_document_runs_alone_and_three_lone_deaths_quarantine_it(bench: Bench) -> None:
    bench.extracted("a.txt")
    for number in range(5):
        assert bench.state("a.txt", CLASSIFY) == State.PENDING
        worker = bench.worker()
        bench.hold(worker, [CLASSIFY], alone=number >= 2)
        bench.die(worker)
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["lone_deaths"], item["attempts"]) == (State.QUARANTINED, 3, 0)
    assert "retry" in item["reason"]


@pytest.mark.rule("suspect-4")
def test_deaths_while_running_with_others_never_quarantine(bench: Bench) -> None:
    bench.extracted("a.txt")
    for _ in range(6):
        worker = bench.worker()
        bench.sql("update work_items set must_run_alone = false")
        bench.hold(worker, [CLASSIFY])
        bench.die(worker)
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["lone_deaths"], item["reclaims"]) == (State.PENDING, 0, 6)


@pytest.mark.rule("suspect-4")
@pytest.mark.parametrize("what", ["reboot", "Postgres restart"])
def test_a_reboot_and_a_restart_of_postgres_never_count(bench: Bench, what: str, change_timing: ChangeTiming) -> None:
    bench.extracted("a.txt")
    bench.sql("update work_items set must_run_alone = true, lone_deaths = 2 where stage = 'classify'")
    worker = bench.worker()
    bench.hold(worker, [CLASSIFY], alone=True)
    if what == "reboot":
        bench.sql("update workers set boot_id = 'the boot before' where worker_id = %s", worker)
    else:
        bench.sql("update workers set heartbeat_at = pg_postmaster_start_time() - interval '1 second'")
    change_timing(lease=0)
    assert worker in reclaim(bench)
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["reclaims"], item["lone_deaths"]) == (State.PENDING, 0, 2)
    assert "host or with Postgres" in item["reason"]


@pytest.mark.rule("suspect-4")
def test_a_page_that_ocr_has_read_ends_the_count_of_deaths(bench: Bench) -> None:
    bench.put("book.pdf")
    bench.sql("update work_items set must_run_alone = true, lone_deaths = 2, reclaims = 2")
    worker = bench.worker("scan")
    claim = bench.hold(worker, [EXTRACT], alone=True)
    page = ocr_pages.ReadPage(1, "text", "eng", seconds=1.0, lanes=1)
    bench.ledger.run(ocr_pages.keep, worker, claim, claim.items[0], page)
    bench.die(worker)
    item = bench.item("book.pdf", EXTRACT)
    assert (item["state"], item["reclaims"], item["lone_deaths"], item["must_run_alone"]) == (
        State.PENDING,
        1,
        1,
        False,
    )


@pytest.mark.rule("suspect-4")
def test_a_worker_that_slept_for_longer_than_its_lease_costs_its_document_nothing(
    bench: Bench, ledger_url: str, change_timing: ChangeTiming
) -> None:
    bench.extracted("a.txt")
    bench.sql("update work_items set must_run_alone = true, lone_deaths = 2 where stage = 'classify'")
    # No `Worker`: its heartbeat would reclaim the work as soon as the lease is 0.
    sleeper = bench.worker()
    bench.hold(sleeper, [CLASSIFY], alone=True)
    with psycopg.connect(ledger_url, autocommit=True) as its_connection:
        its_connection.execute("select pg_advisory_lock(%s, %s)", [workers.lock_class(bench.ledger.schema), sleeper])
        change_timing(lease=0)
        assert sleeper in reclaim(bench), "its connection and its lock are as they were before the sleep"
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["reclaims"], item["lone_deaths"]) == (State.PENDING, 0, 2)
    assert item["reason"] == f"worker {sleeper} slept for longer than its lease"


def test_the_lease_does_not_run_while_postgres_is_down(bench: Bench, change_timing: ChangeTiming) -> None:
    change_timing(server_settled=10**6)  # this test is only about the lease
    worker = bench.worker()
    bench.sql("update workers set heartbeat_at = pg_postmaster_start_time() - interval '1 hour'")
    (up,) = bench.sql("select extract(epoch from clock_timestamp() - pg_postmaster_start_time())::int as seconds")
    change_timing(lease=up["seconds"] + 600)
    assert reclaim(bench) == [], "silent for longer than its lease, but Postgres was down meanwhile"
    change_timing(lease=max(0, up["seconds"] - 1))
    assert reclaim(bench) == [worker]


def test_deregistering_returns_everything_and_costs_no_attempt(bench: Bench) -> None:
    bench.extracted("a.txt")
    with Worker(bench.ledger, "drain") as worker:
        bench.acquire(worker.id)
        bench.hold(worker.id, alone=False)
        bench.sql("update work_items set claimed_alone = true where state = 'claimed'")
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["reclaims"], item["lone_deaths"]) == (State.PENDING, 0, 0)
    assert item["reason"] == "the worker stopped"
    assert bench.sql("select 1 from permits") == []
    assert bench.take(bench.worker()) is not None


def test_deregistering_waits_for_a_claim_and_a_permit_in_flight_and_returns_them(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    with bench.ledger.transaction() as cur:
        assert claims.take(cur, worker, DRAIN_STAGES, RECIPES, count=1)
        assert permits.acquire(cur, DEEP, worker, is_person=False)
        deregistration = bench.begun(lambda cur: workers._deregister(cur, worker))
        assert not deregistration.done()
    deregistration.result(PATIENCE_SECONDS)
    assert bench.state("a.txt", CLASSIFY) == State.PENDING
    assert bench.sql("select 1 from permits") == []


def test_a_dead_worker_with_a_claim_in_flight_is_reclaimed_after_that_transaction(
    bench: Bench, change_timing: ChangeTiming
) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    change_timing(lease=0)
    with bench.ledger.transaction() as cur:
        assert claims.take(cur, worker, DRAIN_STAGES, RECIPES, count=1)
        assert permits.acquire(cur, DEEP, worker, is_person=False)
        assert worker not in reclaim(bench)
    assert reclaim(bench) == [worker]
    assert bench.state("a.txt", CLASSIFY) == State.PENDING
    assert bench.sql("select 1 from permits") == []


# A real process

HOLD_A_CLAIM = """
import sys
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import permits
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.core.workers import Worker

recipes = {"extract": "x1", "classify": "c1", "summarize": "s1"}
with Ledger(sys.argv[1]) as ledger, Worker(ledger, "drain") as worker:
    assert ledger.run(permits.acquire, "deep", worker.id, is_person=False)
    assert ledger.run(claims.take, worker.id, ["classify", "summarize"], recipes, count=1)
    print(worker.id, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def process(bench: Bench, ledger_url: str) -> Iterator[subprocess.Popen[str]]:
    bench.extracted("a.txt")
    started = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_CLAIM, ledger_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield started
    started.kill()
    started.wait()
    for pipe in (started.stdin, started.stdout):
        assert pipe is not None
        pipe.close()


def worker_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.usefixtures("a_free_lock_is_a_death")
def test_a_process_killed_with_9_frees_its_lock_at_once_and_its_work_is_returned(
    bench: Bench, process: subprocess.Popen[str]
) -> None:
    worker = worker_of(process)
    assert worker not in reclaim(bench), "alive: Postgres holds its lock"
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(12_000):  # up to four minutes: Postgres soon notices the closed connection by itself
        if worker in reclaim(bench):
            break
        bench.sql("select pg_sleep(0.02)")
    assert ended(bench, worker)
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["reclaims"]) == (State.PENDING, 1)
    assert bench.sql("select 1 from permits where slot = %s and worker_id = %s", DEEP, worker) == []


def test_a_process_that_ends_by_itself_leaves_no_claims(bench: Bench, process: subprocess.Popen[str]) -> None:
    worker = worker_of(process)
    assert bench.state("a.txt", CLASSIFY) == State.CLAIMED
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    assert ended(bench, worker)
    assert bench.item("a.txt", CLASSIFY)["reclaims"] == 0
    assert bench.take(bench.worker(), [EXTRACT, CLASSIFY]) is not None
