"""The drain sensor launches a drain only if all conditions hold, and a slot that refuses costs no run."""

import asyncio

import pytest

from dagster_offload.engine.session import open_client
from dagster_offload.engine.slot.breaker import check_breaker, run_or_await_trial
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.errors import SlotLost
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import CLASSIFY
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine

FIVE_MINUTES = 300.0


def test_a_green_slot_with_work_launches_without_a_call(engine: Engine) -> None:
    engine.texts("a.txt", "b.txt")
    decision = decide_drain(engine.settings(), engine.ledger)
    assert (decision.launch, decision.message) == (True, "2 documents due, 0 deferred")
    assert engine.router.completions() == []


@pytest.mark.parametrize("behaviour", [{"mode": "cold"}, {"mode": "warming"}, {"health": "red"}])
def test_a_failed_probe_is_reported_and_makes_no_call(engine: Engine, behaviour: dict[str, str]) -> None:
    engine.router.set(**behaviour)
    engine.texts("a.txt")
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    assert "1 document due, 0 deferred" in decision.message
    assert engine.router.completions() == []


def test_without_due_work_there_is_neither_a_probe_nor_a_call(engine: Engine) -> None:
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    assert engine.router.log()["requests"] == []


def test_a_live_drain_prevents_another_and_a_dead_drains_row_does_not(engine: Engine) -> None:
    engine.texts("a.txt")
    with Worker(engine.ledger, "drain"):
        assert "1 drain is running" in decide_drain(engine.settings(), engine.ledger).message
    dead = engine.worker("drain")
    engine.die(dead)
    assert decide_drain(engine.settings(), engine.ledger).launch


@pytest.mark.rule("drain-2")
def test_work_that_only_another_worker_can_continue_launches_no_drain(engine: Engine) -> None:
    engine.texts("a.txt")
    engine.hold(engine.worker("run"), (CLASSIFY,))
    decision = decide_drain(engine.settings(), engine.ledger)
    assert not decision.launch
    assert "waits for an earlier stage or for a worker" in decision.message


def test_a_lost_deep_slot_is_reported(engine: Engine) -> None:
    for name in [name for name in engine.options if name.startswith("deep_")]:
        del engine.options[name]
    with pytest.raises(SlotLost):
        decide_drain(engine.settings(), engine.ledger)


@pytest.mark.rule("breaker-3")
@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 4])
def test_five_minutes_of_editor_busy_cost_at_most_12_calls_and_3_runs_and_no_failure(
    engine: Engine, concurrency: int
) -> None:
    engine.router.set(mode="busy")
    engine.texts(*[f"{n}.txt" for n in range(8)])
    settings = engine.settings(deep_concurrency=concurrency)
    passed, runs, longest = 0.0, 0, 0.0
    while passed < FIVE_MINUTES:
        if decide_drain(settings, engine.ledger).launch:
            runs += 1
            engine.drain(deep_concurrency=concurrency)
        (row,) = engine.sql("select extract(epoch from retry_at - clock_timestamp())::double precision as s from slots")
        passed, longest = passed + row["s"], max(longest, row["s"])
        engine.retry_now()
    assert len(engine.router.completions()) <= 12
    assert runs <= 3
    assert longest <= 45
    assert engine.counts(CLASSIFY).failed == 0
    assert engine.slot().breaker is BreakerState.OPEN

    engine.router.set(mode="awake")
    assert decide_drain(settings, engine.ledger).launch
    summary = engine.drain(deep_concurrency=concurrency)
    assert (summary.done, summary.failed, summary.deferred) == (8, 0, 0)


def test_a_slot_that_turns_healthy_gets_a_trial_before_its_retry_time(engine: Engine) -> None:
    engine.router.set(mode="cold", retry_after="3600")
    engine.texts("a.txt")
    engine.drain()
    assert not decide_drain(engine.settings(), engine.ledger).launch
    engine.router.set(mode="awake")
    assert decide_drain(engine.settings(), engine.ledger).launch


@pytest.mark.rule("breaker-2")
def test_a_deferred_document_is_due_the_moment_the_breaker_closes(engine: Engine) -> None:
    engine.router.set(mode="cold")
    engine.texts("a.txt")
    engine.drain("classify")
    engine.drain("summarize")
    engine.router.set(mode="awake")
    engine.retry_now()
    decision = decide_drain(engine.settings(), engine.ledger)
    assert (decision.launch, decision.message) == (True, "1 document due, 0 deferred")


@pytest.mark.rule("breaker-9")
def test_a_model_that_loads_longer_than_a_tick_is_loaded_by_one_trial_of_a_drain(
    engine: Engine, change_timing: ChangeTiming
) -> None:
    change_timing(sensor_trial=0.2)
    engine.router.set(mode="cold")
    engine.texts("a.txt")
    engine.drain(CLASSIFY)
    engine.router.set(mode="awake", hold=True)  # it loads while the caller waits, and stops when the caller disconnects
    engine.retry_now()
    decision = decide_drain(engine.settings(), engine.ledger)
    assert decision.launch
    assert "no answer within 0.2 s" in decision.message
    engine.router.stop()  # it might read the request of that trial only now
    engine.router.start()
    drain = engine.beside(engine.drain, CLASSIFY)
    engine.router.wait(open=1)
    second = engine.beside(engine.drain, CLASSIFY)
    engine.wait_until("select 1 from workers where kind = 'drain' and ended_at is null having count(*) = 2")
    engine.router.set(hold=False)
    assert drain.result().done + second.result().done == 1
    trials = [entry["outcome"] for entry in engine.router.completions() if entry["document"] is None]
    assert trials.count("answered") == 1, "one trial at a time for all workers"


def misconfigured(engine: Engine) -> None:
    engine.router.set(mode="refuse", status=404, health="green")
    engine.texts("a.txt", "b.txt")
    assert engine.drain().is_misconfigured


def test_the_sensor_retries_a_misconfigured_slot_when_it_is_due(engine: Engine) -> None:
    misconfigured(engine)
    engine.router.set(mode="awake")
    assert not decide_drain(engine.settings(), engine.ledger).launch
    engine.retry_now()
    assert decide_drain(engine.settings(), engine.ledger).launch
    assert engine.drain().done == 2


def test_a_misconfigured_slot_gets_a_trial_at_once_when_its_server_was_restarted(engine: Engine) -> None:
    misconfigured(engine)
    engine.router.set(health="red")
    assert not decide_drain(engine.settings(), engine.ledger).launch
    engine.router.set(mode="awake", health="green")
    assert decide_drain(engine.settings(), engine.ledger).launch


def test_a_misconfigured_slot_gets_a_trial_at_once_when_its_server_lists_other_models(engine: Engine) -> None:
    misconfigured(engine)
    engine.router.set(alias="llama3")
    assert not decide_drain(engine.settings(), engine.ledger).launch
    engine.router.set(mode="awake", alias="qwen-macbook")
    assert decide_drain(engine.settings(), engine.ledger).launch


@pytest.mark.rule("breaker-10")
def test_a_drain_runs_a_trial_at_a_misconfigured_slot_at_once(engine: Engine) -> None:
    misconfigured(engine)
    assert engine.drain().is_misconfigured
    engine.router.set(mode="awake")
    assert engine.drain().done == 2


@pytest.mark.rule("breaker-10")
def test_a_drain_with_settings_from_before_a_correction_leaves_the_trial_to_the_next_worker(engine: Engine) -> None:
    before, corrected = engine.settings(), engine.settings(deep_api_key="right")
    engine.router.set(api_key="right")
    engine.texts("a.txt", "b.txt")
    assert engine.drain().is_misconfigured
    (slot,) = corrected.slots.of_drains
    engine.ledger.run(slots.register, slot)
    calls = len(engine.router.completions())
    asyncio.run(check_with(before, engine))
    assert len(engine.router.completions()) == calls, "the old key would be refused again"
    assert engine.slot().is_retry_due
    assert decide_drain(corrected, engine.ledger).launch
    assert engine.drain(deep_api_key="right").done == 2


async def check_with(settings: Settings, engine: Engine) -> None:
    """Check the slot as a drain with these settings does, and after one of its calls failed."""
    (slot,), ledger = settings.slots.of_drains, AsyncLedger(engine.ledger)
    with Worker(engine.ledger, "drain") as worker:
        async with open_client(settings.slots, ledger) as client:
            await check_breaker(ledger, client, slot, worker)
            assert not await run_or_await_trial(ledger, client, slot, worker, engine.slot().epoch)
