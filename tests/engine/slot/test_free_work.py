"""How often the sensor looks for free work that may not exist."""

from collections.abc import Iterator

import pytest

from dagster_offload.engine.slot.free_work import FreeWork
from dagster_offload.ledger.work import claims
from dagster_offload.stages.graph import CLASSIFY
from tests.support.engine import Engine


class Clock:
    """Each reading of the clock takes the next of these times, in seconds."""

    def __init__(self, *times: float) -> None:
        self._times: Iterator[float] = iter(times)

    def __call__(self) -> float:
        return next(self._times)


def after_a_look_in_vain(engine: Engine, *times: float) -> FreeWork:
    """A worker held the only document during the first look at `deep`, and has released it since."""
    engine.texts("a.txt")
    worker = engine.worker("run")
    claim = engine.hold(worker, (CLASSIFY,))
    free_work = FreeWork(Clock(*times))
    assert not free_work.is_any(engine.ledger, [CLASSIFY], "deep")
    engine.ledger.run(claims.release, worker, claim, "for the test")
    return free_work


@pytest.mark.parametrize(("seconds", "next_look"), [(2.0, 22.0), (30.0, 90.0)])
def test_after_a_long_look_that_found_nothing_the_next_one_waits(
    engine: Engine, seconds: float, next_look: float
) -> None:
    free_work = after_a_look_in_vain(engine, 0.0, seconds, next_look - 0.1, next_look)
    assert not free_work.is_any(engine.ledger, [CLASSIFY], "deep"), "too early"
    assert free_work.is_any(engine.ledger, [CLASSIFY], "deep")


def test_after_a_look_that_took_no_time_the_next_one_does_not_wait(engine: Engine) -> None:
    free_work = after_a_look_in_vain(engine, 5.0, 5.0, 5.0)
    assert free_work.is_any(engine.ledger, [CLASSIFY], "deep")


def test_the_pause_of_one_slot_does_not_concern_another(engine: Engine) -> None:
    free_work = after_a_look_in_vain(engine, 0.0, 5.0, 6.0)
    assert free_work.is_any(engine.ledger, [CLASSIFY], "studio")
