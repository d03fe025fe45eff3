"""Group commit: the finishes and claims of many lanes in one transaction and a few statements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.finish import Finish, finish


@dataclass(frozen=True)
class Want:
    """A lane's request for a document at a slot; `alone`: for a document that must run alone."""

    slot: str
    stages: tuple[str, ...]
    documents: tuple[str, ...] | None = None
    alone: bool = False


# The slot at the time of the claim (a call has the epoch of its claim), and the claim: None if the breaker is not closed or
# nothing is due.
Taken = tuple[SlotRow, Claim | None]


def commit(
    cur: Cursor,
    worker_id: int,
    finishes: Sequence[Finish],
    wants: Sequence[Want],
    recipes: Mapping[str, str],
    run_id: str | None,
) -> tuple[list[bool], list[Taken | None]]:
    """Record all finishes, then make all claims. Returns whether each result's claim still held its item, and what was
    taken for each want: None if the slot was forgotten meanwhile, because an error here would undo the finishes.
    """
    held = finish(cur, worker_id, finishes, recipes, run_id)
    return held, _take_all(cur, worker_id, wants, recipes, run_id) if wants else []


def _take_all(
    cur: Cursor, worker_id: int, wants: Sequence[Want], recipes: Mapping[str, str], run_id: str | None
) -> list[Taken | None]:
    taken_for: dict[Want, tuple[SlotRow | None, list[Claim]]] = {}
    for want in set(wants):
        row = slots.get(cur, want.slot)
        taken = []
        if row is not None and row.breaker is BreakerState.CLOSED:
            taken = claims.take(
                cur,
                worker_id,
                want.stages,
                recipes,
                want.documents,
                count=wants.count(want),
                alone=want.alone,
                slot=want.slot,
                run_id=run_id,
            )
        taken_for[want] = row, taken
    return [
        None
        if (row := taken_for[want][0]) is None
        else (row, taken_for[want][1].pop(0) if taken_for[want][1] else None)
        for want in wants
    ]
