"""A drain: one call per stage, an unavailable slot, limits, several drains at once."""

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Any

import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.rows import BreakerState, State
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.simulator.answers import stage_of
from dagster_offload.simulator.replies import requested_schema
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.faults.acts import writes
from tests.faults.raw_server import CompletionRequest, Connection, RawServer, well
from tests.support.engine import DrainsHeard, Engine

KEYS = [f"{n}.txt" for n in range(6)]


@pytest.mark.rule("answer-4")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_each_stage_of_each_document_is_one_call_and_the_server_reads_a_document_once(
    engine: Engine, concurrency: int
) -> None:
    # Far longer than the time between a document's two calls, on a busy machine, too, as with real models.
    engine.router.set(latency=0.5 if concurrency > 1 else 0.0)
    engine.texts(*KEYS)
    summary = engine.drain(deep_concurrency=concurrency)
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (6, 0, 0, 0)
    assert summary.reason is None
    assert len(engine.asked()) == 12
    assert set(Counter(engine.asked()).values()) == {1}
    log = engine.router.log()
    assert log["max_open"] <= concurrency
    assert log["read_ratio"] <= 1.1
    assert engine.counts(CLASSIFY).done == engine.counts(SUMMARIZE).done == 6


@pytest.mark.rule("breaker-1")
def test_an_unavailable_slot_defers_the_document_costs_no_attempt_and_starts_no_other(engine: Engine) -> None:
    engine.router.set(mode="cold")
    engine.texts(*KEYS)
    summary = engine.drain()
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (0, 0, 1, 5), (
        "each document is counted once"
    )
    assert summary.is_slot_unavailable
    assert "upstream_cold" in str(summary.reason)
    assert len(engine.router.completions()) == 1
    item = engine.item("0.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["deferrals"]) == (State.DEFERRED, 0, 1)


def test_a_drain_at_an_open_breaker_makes_no_call_before_the_trial_is_due(engine: Engine) -> None:
    engine.router.set(mode="busy")
    engine.texts(*KEYS)
    engine.drain()
    again = engine.drain()
    assert len(engine.router.completions()) == 1
    assert again.is_slot_unavailable


def test_a_drain_ends_if_a_trial_is_due_and_the_probe_fails(engine: Engine) -> None:
    engine.router.set(mode="cold")
    engine.texts(*KEYS)
    engine.drain()
    engine.retry_now()
    summary = engine.drain(deep_concurrency=4)
    assert summary.is_slot_unavailable
    assert len(engine.router.completions()) == 1


def test_a_drain_that_probes_the_slot_reports_the_new_reason(engine: Engine) -> None:
    engine.router.set(mode="busy")
    engine.texts(*KEYS)
    engine.drain()
    engine.ledger.run(slots.try_again, DEEP, "a person asked to try again")
    engine.router.set(mode="cold")
    assert str(engine.drain().reason).startswith("deep is unavailable: upstream_cold since ")


def test_the_slot_comes_back_and_everything_is_done_once(engine: Engine) -> None:
    engine.router.set(mode="cold")
    engine.texts(*KEYS)
    engine.drain()
    engine.router.set(mode="awake")
    engine.retry_now()
    assert engine.drain().done == 6
    answered = Counter(
        (entry["document"], entry["stage"])
        for entry in engine.router.completions()
        if entry["document"] and entry["outcome"] == "answered"
    )
    assert len(answered) == 12
    assert set(answered.values()) == {1}


def test_limit_counts_documents_at_any_concurrency(engine: Engine) -> None:
    engine.texts(*KEYS)
    assert engine.drain(limit=2, deep_concurrency=4).done == 2
    assert len(engine.asked()) == 4
    assert engine.drain("classify", limit=1).done == 1
    assert len(engine.asked()) == 5


def test_limit_holds_if_answers_arrive_at_the_same_moment(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AIClient._request
    together = asyncio.Barrier(4)

    async def request(
        self: AIClient, slot: SlotConfig, prompt: str, system: str | None = None, options: Any = None
    ) -> str:
        answer = await real(self, slot, prompt, system, options)
        with contextlib.suppress(TimeoutError, asyncio.BrokenBarrierError):
            async with asyncio.timeout(1):
                await together.wait()
        return answer

    monkeypatch.setattr(AIClient, "_request", request)
    engine.texts(*(f"{n:02}.txt" for n in range(12)))
    assert engine.drain("classify", limit=5, deep_concurrency=4).done == 5
    assert len(engine.asked()) == 5


def test_a_drain_of_one_stage_does_not_touch_the_other(engine: Engine) -> None:
    engine.texts(*KEYS)
    engine.drain("summarize")
    assert {stage for _, stage in engine.asked()} == {SUMMARIZE}
    assert engine.counts(CLASSIFY).pending == 6


def test_copies_share_one_call(engine: Engine) -> None:
    engine.extracted(*KEYS, texts=dict.fromkeys(KEYS, "the same text in all of them"))
    engine.drain(deep_concurrency=4)
    assert len(engine.asked()) == 2
    assert engine.counts(SUMMARIZE).done == 6


def test_three_drains_at_once_keep_to_the_concurrency_and_send_nothing_twice(engine: Engine, ledger_url: str) -> None:
    engine.router.set(latency=0.01)
    keys = [f"{n:02}.txt" for n in range(20)]
    engine.texts(*keys)
    start = threading.Barrier(3)

    def drain() -> int:
        with Ledger(ledger_url) as ledger:
            start.wait()
            return run_drain(engine.settings(deep_concurrency=2), ledger).done

    drains = [engine.beside(drain) for _ in range(3)]
    assert sum(drain.result() for drain in drains) == 20
    assert engine.router.log()["max_open"] <= 2
    assert len(engine.asked()) == 40
    assert set(Counter(engine.asked()).values()) == {1}
    assert engine.sql("select 1 from permits") == []


def test_lowering_the_concurrency_during_a_drain_applies_from_the_next_call(
    engine: Engine, drains_heard: DrainsHeard
) -> None:
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain, deep_concurrency=3)
    engine.router.wait(open=3)
    held = {e["number"] for e in engine.router.completions()}
    engine.ledger.run(slots.set_permits, DEEP, 1)
    drains_heard()
    engine.router.set(hold=False)
    assert drain.result().done == 6
    late = [e for e in engine.router.completions() if e["number"] not in held]
    assert len(late) == 2 * 6 - 3
    assert all(
        not (other["started"] < entry["started"] < other["ended"]) for entry in late for other in late if other != entry
    )


@pytest.mark.rule("breaker-1")
def test_an_open_call_ends_and_no_other_follows_if_another_worker_finds_the_slot_unavailable(
    engine: Engine, drains_heard: DrainsHeard
) -> None:
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    engine.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None)
    drains_heard()
    engine.router.set(hold=False)
    summary = drain.result()
    assert engine.asked() == [(engine.asked()[0][0], CLASSIFY)]
    assert engine.counts(CLASSIFY).done == 1
    assert (summary.left, summary.is_slot_unavailable) == (6, True)


def test_a_lost_worker_keeps_its_answer_starts_nothing_new_and_holds_nothing(engine: Engine) -> None:
    engine.texts(*KEYS)
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    (row,) = engine.sql("select worker_id from workers where kind = 'drain' and ended_at is null")
    engine.die(row["worker_id"])
    engine.router.set(hold=False)
    drain.result()
    assert len(engine.asked()) == 1
    assert engine.sql("select 1 from permits") == []
    assert engine.counts(CLASSIFY).claimed == 0
    assert engine.drain().done == 6
    assert len(engine.asked()) == 12, "the late answer was kept, so nothing is sent twice"


def test_a_dead_workers_permits_and_claims_are_released_while_a_drain_waits_for_a_permit(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(heartbeat=0.1)
    change_timing(stale_heartbeat=0.5)
    change_timing(server_settled=0)
    engine.texts(*KEYS)
    dead = engine.worker()  # its row holds a permit and a claim and no lock, as after kill -9
    assert engine.acquire(dead)
    engine.hold(dead)
    assert engine.drain().done == 6
    assert engine.sql("select 1 from workers where worker_id = %s and was_reclaimed", dead)


def test_a_slot_that_refuses_all_calls_opens_its_breaker_once(engine: Engine) -> None:
    engine.router.set(mode="cold", latency=0.05)
    engine.texts(*KEYS)
    summary = engine.drain(deep_concurrency=4)
    assert len(engine.router.completions()) <= 4
    assert engine.slot().breaker is BreakerState.OPEN
    assert summary.failed == 0
    assert sum(engine.item(key, CLASSIFY)["attempts"] for key in KEYS) == 0


@pytest.mark.rule("drain-9")
def test_an_item_that_waits_for_its_next_attempt_is_left(engine: Engine) -> None:
    engine.router.set(answers="garbage")
    engine.texts("0.txt")
    summary = engine.drain(CLASSIFY)
    assert engine.item("0.txt", CLASSIFY)["attempts"] == 1
    assert (summary.done, summary.left, summary.in_back_off) == (0, 1, 1)
    assert not summary.is_slot_unavailable, "this command can do no more now, and the slot is available"


def classifies_badly(connection: Connection, request: CompletionRequest) -> bool | None:
    """A model that gives no usable answer to one of the stages."""
    asks_for_class = stage_of(request.body["messages"], requested_schema(request.body)) == CLASSIFY
    return writes("no record")(connection, request) if asks_for_class else well(connection, request)


@pytest.mark.rule("drain-9")
@pytest.mark.parametrize(("attempts_before", "failed", "left"), [(0, 0, 1), (2, 1, 0)])
def test_a_document_of_which_one_stage_is_done_and_one_is_not_is_not_done(
    engine: Engine, attempts_before: int, failed: int, left: int
) -> None:
    engine.texts("0.txt")
    engine.sql("update work_items set attempts = %s where stage = 'classify'", attempts_before)
    with RawServer(classifies_badly) as server:
        summary = engine.drain(deep_url=server.url)
    assert engine.item("0.txt", SUMMARIZE)["state"] == "done"
    assert (summary.done, summary.failed, summary.left, summary.answered_in_part) == (0, failed, left, 1)
