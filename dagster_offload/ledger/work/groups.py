"""Group commit: the finishes and claims of many lanes in one transaction, in a handful of statements however many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.finish import Finish, finish


@dataclass(frozen=True)
class Want:
    """A document wanted for a lane at a slot; `alone`: one of those that must run alone."""

    slot: str
    stages: tuple[str, ...]
    documents: tuple[str, ...] | None = None
    alone: bool = False


# The slot as it was at the claim: a call's epoch is that of its claim. No claim where its breaker is not closed, or nothing
# is due.
Taken = tuple[SlotRow, Claim | None]


def commit(
    cur: Cursor,
    worker_id: int,
    finishes: Sequence[Finish],
    wants: Sequence[Want],
    recipes: Mapping[str, str],
    run_id: str | None,
) -> tuple[list[bool], list[Taken | None]]:
    """All finishes, then all claims: whether each result's claim still held its item, and what each want got.

    None where the slot was forgotten meanwhile: raised here, that would undo the finishes.
    """
    held = finish(cur, worker_id, finishes, recipes, run_id)
    return held, _take_all(cur, worker_id, wants, recipes, run_id) if wants else []


def _take_all(
    cur: Cursor, worker_id: int, wants: Sequence[Want], recipes: Mapping[str, str], run_id: str | None
) -> list[Taken | None]:
    found: dict[Want, tuple[SlotRow | None, list[Claim]]] = {}
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
        found[want] = row, taken
    return [
        None if (row := found[want][0]) is None else (row, found[want][1].pop(0) if found[want][1] else None)
        for want in wants
    ]
