"""A tick of the drain sensor while Postgres holds up a step of one slot."""

import asyncio
import threading
from concurrent.futures import Future

import pytest

from dagster_offload.client.probe import probe
from dagster_offload.engine.slot import launch
from dagster_offload.engine.slot.launch import Decision, decide_drain
from dagster_offload.ledger.slots import rests
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.slot.health import ProbeResult
from tests.support.acceptance import wait_for
from tests.support.several_slots import Several


@pytest.mark.rule("drain-2")
def test_a_step_that_waits_for_postgres_at_one_slot_does_not_keep_the_tick_from_the_other_slot(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep_waits = threading.Event()

    async def probe_when_deep_waits(slot: SlotConfig) -> ProbeResult:
        await asyncio.to_thread(deep_waits.wait)  # a tick that finds work at `studio` waits for no other slot
        return await probe(slot)

    engine = several.engine
    engine.texts("a.txt")
    decide_drain(engine.settings(), engine.ledger)
    looks = several.studio.log()["requests"]
    engine.ledger.run(rests.pause, DEEP, None)
    monkeypatch.setattr(launch, "probe", probe_when_deep_waits)
    with engine.ledger.connect() as other, other.transaction():
        other.execute("lock table availability in exclusive mode")  # `deep` rests, and noting that waits
        tick: Future[Decision] = engine.beside(decide_drain, engine.settings(), engine.ledger)
        try:
            engine.wait_until(
                "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%availability%'"
            )
        finally:
            deep_waits.set()
        wait_for(lambda: len(several.studio.log()["requests"]) > len(looks), "a probe of the other slot")
    assert tick.result().launch
