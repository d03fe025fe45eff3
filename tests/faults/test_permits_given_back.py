"""Permits released at the same moment are all released. A lost one made one drain in seven hang."""

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.slot.config import DEEP
from tests.support.ledger import SLOT, Bench


def test_two_lanes_of_a_worker_that_end_at_the_same_moment_release_both_permits(empty_ledger: Ledger) -> None:
    bench = Bench(empty_ledger)
    empty_ledger.run(slots.register, SLOT)
    worker = bench.worker()
    assert bench.acquire(worker)
    assert bench.acquire(worker)
    with empty_ledger.transaction() as one:
        permits.release(one, DEEP, worker)
        other = bench.begun(lambda cur: permits.release(cur, DEEP, worker))  # while the first has not committed
    other.result()
    assert bench.sql("select 1 from permits") == []
