"""A tick of the drain sensor while Postgres holds up a step of one slot."""

from concurrent.futures import Future
from typing import Any

from dagster_offload.engine.slot.launch import Decision, decide_drain
from dagster_offload.ledger.slots import rests
from dagster_offload.slot.config import DEEP
from tests.support.several_slots import Several


def test_a_step_that_waits_for_postgres_at_one_slot_does_not_keep_the_tick_from_the_other_slot(
    several: Several,
) -> None:
    engine = several.engine
    engine.texts("a.txt")
    decide_drain(engine.settings(), engine.ledger)
    looks = several.studio.log()["requests"]
    engine.ledger.run(rests.pause, DEEP, None)
    with engine.ledger.connect() as other, other.transaction():
        other.execute("lock table availability in exclusive mode")  # `deep` rests, and noting that waits
        tick: Future[Decision] = engine.beside(decide_drain, engine.settings(), engine.ledger)
        engine.wait_until(
            "select pid from pg_stat_activity where wait_event_type = 'Lock' and query like '%availability%'"
        )
        _wait_for_another_look(several, len(looks), engine)
    assert tick.result().launch


def _wait_for_another_look(several: Several, before: int, engine: Any) -> None:
    for _ in range(500):
        if len(several.studio.log()["requests"]) > before:
            return
        engine.sql("select pg_sleep(0.02)")
    raise TimeoutError("the other slot was not probed while the step waited")
