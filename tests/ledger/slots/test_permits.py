"""Permits: never more than N, exclusive ones, and their priority."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dagster_offload.ledger.core import workers
from dagster_offload.ledger.slots import breaker, permits, slots
from dagster_offload.slot.config import DEEP
from tests.support.ledger import Bench
from tests.support.patience import PATIENCE_SECONDS


def release(bench: Bench, worker: int) -> None:
    bench.ledger.run(permits.release, DEEP, worker)


def gives_up(bench: Bench, worker: int, *, is_person: bool = False) -> bool:
    return bench.ledger.run(permits.give_up_if_wanted, DEEP, worker, is_person=is_person)


def held(bench: Bench) -> int:
    return len(bench.sql("select 1 from permits"))


def test_all_workers_together_hold_at_most_n_permits(bench: Bench) -> None:
    one, two = bench.worker(), bench.worker()
    assert [bench.acquire(one), bench.acquire(two), bench.acquire(one)] == [True, True, False]
    release(bench, two)
    assert bench.acquire(one)


def test_a_permit_that_another_transaction_reads_can_still_be_returned(bench: Bench) -> None:
    worker = bench.worker()
    assert bench.acquire(worker)
    with bench.ledger.transaction() as cur:  # like a lost connection that Postgres has not noticed yet
        cur.execute("select 1 from permits for update")
        lane = bench.begun(lambda cur: permits.release(cur, DEEP, worker))
    lane.result(PATIENCE_SECONDS)
    assert held(bench) == 0


def test_lanes_that_end_at_the_same_moment_each_return_a_permit(bench: Bench) -> None:
    worker = bench.worker()
    assert bench.acquire(worker)
    assert bench.acquire(worker)
    with bench.ledger.transaction() as one:
        permits.release(one, DEEP, worker)
        other = bench.begun(lambda cur: permits.release(cur, DEEP, worker))
    other.result(PATIENCE_SECONDS)
    assert held(bench) == 0


def test_a_permit_returned_while_a_worker_with_a_trial_deregisters_causes_no_deadlock(
    bench: Bench,
) -> None:
    worker = bench.worker()
    assert bench.acquire(worker)
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "cut", None, at_once=True)
    assert bench.begin_trial(worker, 1) is breaker.TrialTurn.YOURS
    with bench.ledger.transaction() as lane:
        slots.locked(lane, DEEP)
        deregistration = bench.begun(lambda cur: workers._deregister(cur, worker))
        permits.release(lane, DEEP, worker)
    deregistration.result(PATIENCE_SECONDS)
    assert held(bench) == 0


def test_a_forgotten_slot_has_no_permits_left_to_return(bench: Bench) -> None:
    worker = bench.worker()
    assert bench.acquire(worker)
    bench.ledger.run(slots.forget, DEEP)
    release(bench, worker)
    assert held(bench) == 0


@pytest.mark.rule("ledger-8")
def test_workers_that_race_for_permits_never_hold_more_than_n(bench: Bench) -> None:
    start, guard, counts = threading.Barrier(8), threading.Lock(), [0, 0]

    def race(_number: int) -> None:
        worker = bench.worker()
        start.wait()
        for _ in range(25):
            if bench.acquire(worker):
                with guard:
                    counts[0] += 1
                    counts[1] = max(counts)
                assert held(bench) <= 2
                with guard:
                    counts[0] -= 1
                release(bench, worker)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(race, range(8)))
    assert counts[1] == 2
    assert held(bench) == 0


def test_an_exclusive_permit_waits_for_all_others_and_blocks_them(bench: Bench) -> None:
    one, alone = bench.worker(), bench.worker()
    bench.acquire(one)
    assert not bench.acquire(alone, is_exclusive=True)
    release(bench, one)
    assert bench.acquire(alone, is_exclusive=True)
    assert not bench.acquire(one)
    person = bench.worker("run")
    assert not bench.acquire(person, is_person=True)
    release(bench, alone)
    assert bench.acquire(person, is_person=True)
    assert bench.acquire(one)


@pytest.mark.rule("ledger-8")
def test_a_drain_returns_a_permit_when_a_persons_run_waits(bench: Bench) -> None:
    drain, person = bench.worker(), bench.worker("run")
    bench.acquire(drain)
    bench.acquire(drain)
    assert not gives_up(bench, drain)
    assert not bench.acquire(person, is_person=True)
    assert gives_up(bench, drain)
    assert not bench.acquire(drain), "a drain gets none while a person's run waits"
    assert bench.acquire(person, is_person=True)
    assert not gives_up(bench, drain)


def test_runs_return_no_permit_for_runs_and_drains_none_for_drains(bench: Bench) -> None:
    person, drain = bench.worker("run"), bench.worker()
    bench.acquire(person, is_person=True)
    bench.acquire(drain)
    assert not bench.acquire(bench.worker(), is_person=False)
    assert not gives_up(bench, drain)
    assert not bench.acquire(bench.worker("run"), is_person=True)
    assert not gives_up(bench, person, is_person=True)


def test_a_worker_that_stops_waiting_blocks_no_other(bench: Bench) -> None:
    drain, person = bench.worker(), bench.worker("run")
    bench.acquire(drain)
    bench.acquire(drain)
    bench.acquire(person, is_person=True)
    bench.ledger.run(permits.stop_waiting, DEEP, person)
    assert not gives_up(bench, drain)


def test_the_death_of_a_waiting_run_blocks_no_other(bench: Bench) -> None:
    drain, person = bench.worker(), bench.worker("run")
    bench.acquire(drain)
    bench.acquire(drain)
    bench.acquire(person, is_person=True)
    bench.die(person)
    assert not gives_up(bench, drain)


def test_permits_above_a_lowered_n_are_returned_after_the_current_call(bench: Bench) -> None:
    one, two = bench.worker(), bench.worker("run")
    bench.acquire(one)
    bench.acquire(two, is_person=True)
    bench.ledger.run(slots.set_permits, DEEP, 1)
    assert gives_up(bench, two, is_person=True)
    assert not gives_up(bench, one)
    assert held(bench) == 1


def test_a_reclaimed_worker_gets_no_permit(bench: Bench) -> None:
    lost = bench.worker()
    bench.acquire(lost)
    bench.die(lost)
    assert held(bench) == 0
    assert not bench.acquire(lost)
    assert bench.sql("select 1 from permit_waiters") == []


def test_a_waiting_run_notifies_all_holders(bench: Bench) -> None:
    drain = bench.worker()
    bench.acquire(drain)
    bench.acquire(drain)
    with bench.ledger.connect() as listener:
        listener.execute(f"listen {bench.ledger.channel}")
        bench.acquire(bench.worker("run"), is_person=True)
        messages = [note.payload for note in listener.notifies(timeout=PATIENCE_SECONDS, stop_after=2)]
        assert messages == ["started", "wanted:deep"]
        release(bench, drain)
        assert [note.payload for note in listener.notifies(timeout=PATIENCE_SECONDS, stop_after=1)] == ["freed"]
