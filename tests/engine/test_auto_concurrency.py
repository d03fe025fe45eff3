"""The concurrency of a drain: found automatically, limited by the prompt cache size, without a query per call."""

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from dagster_offload.client import prompt_cache
from dagster_offload.drain import DrainSummary, run_drain
from dagster_offload.engine.lanes.lane import Lane
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.slot.config import DEEP
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.router import change_after

pytestmark = pytest.mark.slow

# In seconds, on a busy machine. As with real models, whose prompt cache has the document when its second stage is asked.
LONGER_THAN_A_DOCUMENTS_NEXT_CALL_TAKES = 0.5


@pytest.fixture(autouse=True)
def frequent_checks(change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_cache, "ASK_SECONDS", 240.0)  # a busy machine, too, reports its size in time
    change_timing(steer=0.05)
    change_timing(busy_pause=0.05)


def open_beside(requests: list[dict[str, Any]]) -> list[int]:
    """How many completions were open when each of these started, itself included."""
    return [sum(other["started"] <= each["started"] < other["ended"] for other in requests) for each in requests]


def keys(number: int) -> list[str]:
    return [f"{n:03}.txt" for n in range(number)]


# How close `auto` gets to a server's limit depends on how much this machine delays calls, so tests/ledger/slots/ checks that
# with a computed server. These check what the engine does on any machine.


def test_auto_finds_the_limit_of_a_server_that_refuses_more_calls_and_stays_within_it(engine: Engine) -> None:
    engine.router.set(concurrency=6, refuses_above=2, latency=0.05)
    engine.texts(*keys(40))
    summary = engine.drain(deep_concurrency="auto")
    assert (summary.done, summary.failed, summary.deferred) == (40, 0, 0)
    assert engine.router.log()["max_open"] <= 3, (
        "one refused call is enough, and no other drain repeats the attempt at once"
    )
    refusals = engine.router.log()["refusals"]
    assert refusals <= 4
    times = Counter(engine.asked())
    assert len(times) == 2 * 40
    assert sum(times.values()) <= len(times) + refusals, "only refused documents are sent again"
    found = engine.slot().concurrency_found
    assert found is not None
    assert found["concurrency"] in (1, 2)


def test_several_drains_at_auto_find_one_concurrency_together(engine: Engine, ledger_url: str) -> None:
    engine.router.set(concurrency=4, refuses_above=4, latency=0.2)
    engine.texts(*keys(60))
    start = threading.Barrier(3)

    def drain() -> int:
        with Ledger(ledger_url) as ledger:
            start.wait()
            return run_drain(engine.settings(deep_concurrency="auto"), ledger).done

    drains = [engine.beside(drain) for _ in range(3)]
    assert sum(drain.result() for drain in drains) == 60
    assert engine.router.log()["max_open"] <= 5
    assert engine.slot().permits <= 4


def test_auto_starts_with_one_call_and_then_two(engine: Engine) -> None:
    engine.router.set(latency=0.05, concurrency=8)
    engine.texts(*keys(16))
    engine.drain(deep_concurrency="auto")
    beside = open_beside(engine.router.completions())
    assert beside[:4] == [1, 1, 1, 1]
    assert max(beside) >= 2
    assert all(after - before <= 1 for before, after in itertools.pairwise(beside))


def test_calls_that_take_longer_than_accepted_keep_the_concurrency_low(engine: Engine) -> None:
    engine.router.set(latency=0.1, concurrency=8)
    engine.texts(*keys(8))
    engine.drain(deep_concurrency="auto", deep_max_call_seconds=0.05)
    assert engine.router.log()["max_open"] == 1


def drain_with_open_calls(engine: Engine, number: int, **changes: Any) -> Future[DrainSummary]:
    """A drain whose calls are answered from the moment at which so many of them are open."""
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, **changes)
    engine.router.wait(open=number)
    engine.router.set(hold=False)
    return drain


def test_documents_in_flight_never_exceed_the_prompt_cache_size_that_a_server_reports(engine: Engine) -> None:
    engine.router.set(concurrency=3, tells_cache_size=True, latency=LONGER_THAN_A_DOCUMENTS_NEXT_CALL_TAKES)
    engine.texts(*keys(12))
    assert engine.drain(deep_concurrency=8).done == 12
    assert engine.router.log()["max_open"] <= 3
    assert engine.router.log()["read_ratio"] <= 1.1
    row = engine.slot()
    assert (row.permits, row.prompt_cache_size, row.prompt_cache_size_from, row.concurrency) == (8, 3, "server", 3)


def test_a_prompt_cache_size_set_by_a_person_overrides_the_servers(engine: Engine) -> None:
    engine.router.set(concurrency=8, tells_cache_size=True, latency=0.05)
    engine.ledger.run(slots.set_prompt_cache_size, DEEP, 2)
    engine.texts(*keys(10))
    drain_with_open_calls(engine, 2, deep_concurrency=6).result()
    assert engine.router.log()["max_open"] == 2


def test_a_server_that_reports_no_prompt_cache_size_gets_the_set_concurrency(engine: Engine) -> None:
    engine.router.set(latency=0.1, concurrency=8)
    engine.texts(*keys(12))
    drain_with_open_calls(engine, 5, deep_concurrency=5).result()
    assert engine.router.log()["max_open"] == 5
    assert engine.slot().prompt_cache_size is None


def test_raising_the_concurrency_during_a_drain_opens_more_calls(engine: Engine) -> None:
    engine.texts(*keys(8))
    engine.router.set(hold=True, concurrency=8)
    drain = engine.beside(engine.drain, deep_concurrency=2)
    engine.router.wait(open=2)
    engine.ledger.run(slots.set_permits, DEEP, 4)
    engine.router.wait(open=4)
    engine.router.set(hold=False)
    assert drain.result().done == 8


def test_a_drain_that_began_with_one_document_opens_more_lanes_once_more_are_due(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(recheck=0.05)
    engine.router.set(hold=True, concurrency=8)
    engine.texts("first.txt")
    drain = engine.beside(engine.drain, deep_concurrency=4)
    engine.router.wait(open=1)
    engine.texts(*keys(8))
    engine.router.wait(open=4)
    engine.router.set(hold=False)
    assert drain.result().done == 9


def drain_with_a_lane_that_found_nothing(engine: Engine) -> Future[DrainSummary]:
    """Two documents with one text at concurrency 2: while the call for the first is held, the other lane cannot claim the
    copy."""
    engine.router.set(hold=True, concurrency=8)
    engine.extracted("first.txt", "copy.txt", texts=dict.fromkeys(["first.txt", "copy.txt"], "the same text"))
    drain = engine.beside(engine.drain, deep_concurrency=2)
    engine.router.wait(open=1)
    engine.wait_until("select 1 from permits having count(*) = 1")
    return drain


def test_a_lane_that_ended_without_work_is_replaced_once_work_is_due(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(recheck=0.05)
    drain = drain_with_a_lane_that_found_nothing(engine)
    engine.texts("another.txt")
    engine.router.wait(open=2)
    engine.router.set(hold=False)
    assert drain.result().done == 3


def test_a_429_never_ends_the_last_lane(engine: Engine, change_timing: ChangeTiming) -> None:
    change_timing(busy_pause=0.01)
    drain = drain_with_a_lane_that_found_nothing(engine)
    change_after(engine.router, after_refusals=1, mode="awake")
    engine.router.set(mode="refuse", status=429, hold=False)  # the open call is answered, the next one is refused
    assert drain.result().left == 0


def test_lanes_that_end_at_the_same_moment_after_a_429_leave_no_work(
    engine: Engine, change_timing: ChangeTiming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One lane has found nothing to do and is about to end. The other makes work due, and ends as one lane too many."""
    work = Lane.work

    async def ends_after_the_others(lane: Lane) -> None:
        await work(lane)
        others = {task for task in lane._shared.lanes if task not in (asyncio.current_task(), None)}
        if others and not lane._shared.is_reduced:
            await asyncio.wait(others)

    monkeypatch.setattr(Lane, "work", ends_after_the_others)
    change_timing(busy_pause=0.01)
    drain = drain_with_a_lane_that_found_nothing(engine)
    change_after(engine.router, after_refusals=1, mode="awake")
    engine.router.set(mode="refuse", status=429, hold=False)
    assert drain.result().left == 0


@pytest.mark.parametrize(("prompt_cache_size", "is_warned"), [(2, False), (1, True)])
def test_a_drain_warns_if_the_server_read_documents_again_for_their_second_stage(
    engine: Engine, prompt_cache_size: int, is_warned: bool
) -> None:
    engine.router.set(concurrency=prompt_cache_size, latency=LONGER_THAN_A_DOCUMENTS_NEXT_CALL_TAKES)
    engine.texts(*keys(6))
    summary = engine.drain(deep_concurrency=2)
    assert (summary.warning is not None) == is_warned
    assert summary.tokens_cached is not None
    assert (summary.tokens_cached > summary.tokens_read / 2) != is_warned
    assert summary.tokens_written > 0
    assert summary.concurrency == 2
    assert summary.documents_per_hour is not None


def test_a_call_costs_no_query_beyond_claim_and_finish(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    change_timing(recheck=3600.0)  # a slow machine would check at intervals, too
    steps: list[str] = []
    run = Ledger.run

    def counted(self: Ledger, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        steps.append(getattr(step, "__qualname__", str(step)))
        return run(self, step, *args, **kwargs)

    engine.texts(*keys(15))
    engine.drain(limit=5)
    monkeypatch.setattr(Ledger, "run", counted)
    engine.drain(limit=2)
    few = Counter(steps)
    steps.clear()
    engine.drain(limit=8)
    more = Counter(steps)
    # Six more documents: a claim and two results each. The task that opens lanes may add up to two checks.
    assert sum((more - few).values()) <= 6 * (1 + 2) + 3, more - few
