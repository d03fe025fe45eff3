"""Stages that slots hold, made as drains make them: document after document ends in a fault."""

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import holds
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY
from tests.support.ledger import Bench

KEYS = [f"{n:02}.txt" for n in range(5)]


def refuse(
    bench: Bench, worker: int, key: str, code: str = "http_400", stage: str = CLASSIFY, slot: str = DEEP
) -> State:
    return bench.fail(worker, bench.hold(worker, [stage], keys=[key], slot=slot), code, slot=slot)


def answer(bench: Bench, worker: int, key: str, stage: str) -> None:
    assert bench.finish(worker, bench.hold(worker, [stage], keys=[key]))


def held(bench: Bench) -> dict[str, set[str]]:
    return holds.by_slot(bench.ledger.run(holds.list_holds))


def the_hold(bench: Bench) -> Hold:
    [hold] = bench.ledger.run(holds.list_holds)
    return hold


def attempts(bench: Bench, *keys: str, stage: str = CLASSIFY) -> list[int]:
    return [bench.item(key, stage)["attempts"] for key in keys]


def held_by_five(bench: Bench, *others: str) -> int:
    """Five documents that made the slot hold `classify`, and other documents that wait. Returns the worker."""
    bench.extracted(*KEYS, *others)
    worker = bench.worker()
    for key in KEYS:
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    return worker
