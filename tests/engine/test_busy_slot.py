"""A slot that answers 429: calls wait, lanes become fewer, and the third in a row opens the breaker."""

import asyncio
from typing import Any

import pytest

from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.slot.config import DEEP
from dagster_offload.testing import ChangeTiming
from tests.support.engine import DrainsHeard, Engine, attempts, outcomes
from tests.support.patience import PATIENCE_SECONDS
from tests.support.router import change_after

KEYS = [f"{n}.txt" for n in range(8)]


def test_429s_wait_reduce_the_lanes_and_are_recorded_and_three_in_a_row_open_the_breaker(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(busy_pause=0.01)
    engine.router.set(mode="refuse", status=429)
    engine.texts(*KEYS)
    summary = engine.drain()
    assert (summary.failed, attempts(engine)) == (0, 0)
    assert summary.is_slot_unavailable
    assert "busy" in str(summary.reason)
    assert len(engine.router.completions()) == 3
    assert sum(outcomes(engine).values()) == 3


def test_a_single_429_costs_only_its_wait(engine: Engine, change_timing: ChangeTiming) -> None:
    change_timing(busy_pause=0.01)
    engine.router.set(mode="refuse", status=429)
    change_after(engine.router, after_refusals=1, mode="awake")
    engine.texts("a.txt")
    assert engine.drain().done == 1
    assert engine.slot().epoch == 1
    assert outcomes(engine) == {"http_429": 1, "ok": 2}


@pytest.mark.rule("slot-9")
def test_calls_that_are_refused_together_for_being_too_many_do_not_stop_the_drain(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(
        busy_pause=1.0
    )  # long enough for the test to let the others go on before the refused calls are sent again
    engine.router.set(hold=True, refuses_above=4)
    engine.texts(*KEYS)
    drain = engine.beside(engine.drain, "classify", deep_concurrency=8)
    engine.router.wait(open=4, refusals=4)
    engine.router.set(hold=False)
    assert (drain.result().done, attempts(engine)) == (len(KEYS), 0)


@pytest.mark.rule("slot-9")
def test_lanes_that_are_too_many_for_the_server_end_at_once_and_the_limit_is_still_reached(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    """If they all waited, they would be sent again together, and take the places of those that were answered."""
    change_timing(busy_pause=PATIENCE_SECONDS)
    engine.router.set(hold=True, refuses_above=1)
    engine.texts(*KEYS)
    drain = engine.beside(engine.drain, "classify", 6, deep_concurrency=4)
    engine.router.wait(open=1, refusals=3)
    engine.wait_until("select 1 where (select count(*) from work_items where state = 'claimed') = 1")
    engine.router.set(hold=False)
    assert drain.result().done == 6
    assert outcomes(engine) == {"http_429": 3, "ok": 6}
    assert engine.sql("select 1 from permits") == []


@pytest.mark.rule("slot-9")
def test_a_lane_that_a_429_cost_is_opened_again_when_the_server_has_time_again(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(busy_pause=0.01, recheck=0.05, lane_back=0.1)
    keys = [f"{n:02}.txt" for n in range(16)]
    engine.router.set(hold=True)
    engine.texts(*keys)
    drain = engine.beside(engine.drain, "classify", deep_concurrency=3)
    engine.router.wait(open=3)
    engine.router.set(hold=False, mode="refuse", status=429)
    change_after(engine.router, after_refusals=1, mode="awake", hold=True)
    engine.router.wait(refusals=1, open=3)
    answers = engine.router.log()["answers"] + 3
    change_after(engine.router, after_answers=3, hold=True)
    engine.router.set(hold=False)
    engine.router.wait(answers=answers, open=3)
    engine.router.set(hold=False)
    assert drain.result().done == len(keys)


@pytest.mark.rule("slot-9")
def test_no_lane_that_waits_for_a_permit_sends_at_once_in_place_of_one_that_was_refused(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(busy_pause=10.0)  # long enough for the test to let the server answer again
    keys = [f"{n:02}.txt" for n in range(12)]
    engine.router.set(hold=True)
    engine.texts(*keys)
    drain = engine.beside(engine.drain, "classify", deep_concurrency=4)
    engine.router.wait(open=4)
    engine.ledger.run(slots.set_permits, DEEP, 1)
    answers = engine.router.log()["answers"] + 4
    change_after(engine.router, after_answers=4, hold=True)
    engine.router.set(hold=False)
    engine.router.wait(answers=answers, open=1)
    engine.wait_until("select 1 from permit_waiters")
    engine.router.set(hold=False, mode="refuse", status=429)
    engine.router.wait(refusals=1)
    engine.wait_until("select 1 where not exists (select from permit_waiters)")
    engine.router.set(mode="awake")
    assert drain.result().done == len(keys)
    assert outcomes(engine)["http_429"] < 3, "the lanes that waited have sent nothing"


@pytest.mark.rule("slot-9")
def test_the_lanes_of_several_workers_that_are_too_many_together_do_not_stop_their_drains(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    """Each permit that a lane returns is taken by a lane of another worker, which is refused, too."""
    change_timing(busy_pause=10.0)  # long enough for the test to let the others go on
    keys = [f"{n:02}.txt" for n in range(24)]
    engine.router.set(hold=True, refuses_above=3)
    engine.texts(*keys)
    drains = [engine.beside(engine.drain, "classify", deep_concurrency=12) for _ in range(3)]
    engine.router.wait(open=3, refusals=9)
    engine.wait_until(
        "select 1 where (select count(*) from permits) <= 3 + 3"
    )  # in use, and of each worker's last lane
    engine.router.set(hold=False)
    assert sum(drain.result().done for drain in drains) == len(keys)
    assert attempts(engine) == 0


def test_a_call_to_a_busy_slot_is_not_retried_if_the_breaker_opened_meanwhile(
    engine: Engine, drains_heard: DrainsHeard, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_busy = DocumentRunner._after_busy

    async def until_the_breaker_opens(runner: DocumentRunner, *given: Any) -> DocumentEnd | None:
        end = await after_busy(runner, *given)
        await asyncio.to_thread(drains_heard, "breaker:")
        return end

    monkeypatch.setattr(DocumentRunner, "_after_busy", until_the_breaker_opens)
    engine.router.set(mode="refuse", status=429)
    engine.texts("a.txt")
    drain = engine.beside(engine.drain)
    engine.router.wait(refusals=1)
    engine.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None)
    drain.result()
    assert len(engine.router.completions()) == 1
