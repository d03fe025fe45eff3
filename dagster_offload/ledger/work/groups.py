"""Group commit: the finishes and claims of many lanes in one transaction, in a handful of statements however many.

Fences and outcomes are those of `results.finish` and `claims.take`. What is out of the ordinary (a claim that was lost,
a redo, a result that stands already) is finished by `results.finish` itself, in the same transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, Claim, ClaimedItem, NewResult, SlotRow
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.finish import finish, lock_names
from dagster_offload.stages.graph import EXTRACT


@dataclass(frozen=True)
class Finish:
    """A result on its way into the ledger."""

    claim: Claim
    item: ClaimedItem
    result: NewResult

    @property
    def key(self) -> tuple[str, str, str]:
        return self.item.stage, self.item.input_digest, self.item.recipe


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
    held = _finish_all(cur, worker_id, finishes, recipes, run_id) if finishes else []
    return held, _take_all(cur, worker_id, wants, recipes, run_id) if wants else []


def _take_all(
    cur: Cursor, worker_id: int, wants: Sequence[Want], recipes: Mapping[str, str], run_id: str | None
) -> list[Taken | None]:
    found: dict[Want, tuple[SlotRow | None, list[Claim]]] = {}
    for want in set(wants):
        row = slots.get(cur, want.slot)
        taken = []
        if row is not None and row.breaker is BreakerState.CLOSED:
            taken = claims.take_many(
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


def _finish_all(
    cur: Cursor, worker_id: int, finishes: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None
) -> list[bool]:
    by_key = {entry.key: entry for entry in finishes if _may_be_ordinary(entry)}
    cur.execute(
        "select finish_group(%s::jsonb, %s::text[], %s, %s) as item_id",
        [
            json.dumps([_row(entry) for entry in by_key.values()]),
            lock_names(entry.key for entry in finishes),
            worker_id,
            run_id,
        ],
    )
    done = {row["item_id"] for row in cur.fetchall()}
    return [
        (entry.item.item_id in done and by_key[entry.key] is entry)
        or finish(cur, worker_id, entry.claim, entry.item, entry.result, recipes, run_id)
        for entry in finishes
    ]


def _may_be_ordinary(entry: Finish) -> bool:
    return entry.item.stage != EXTRACT and len(entry.result.calls) == 1 and entry.result.in_all is None


def _row(entry: Finish) -> dict[str, Any]:
    (call,) = entry.result.calls
    return {
        "item_id": entry.item.item_id,
        "token": entry.claim.token,
        "first_document": entry.claim.document,
        "stage": entry.item.stage,
        "input_digest": entry.item.input_digest,
        "recipe": entry.item.recipe,
        "outcome": entry.result.outcome,
        "value": entry.result.value,
        "output_digest": entry.result.output_digest,
        "slot": call.slot,
        "epoch": call.epoch,
        "asked_model": call.asked_model,
        "served_model": call.served_model,
        "model_evidence": call.model_evidence,
        "tokens_in": call.tokens_in,
        "tokens_out": call.tokens_out,
        "tokens_cached": call.tokens_cached,
        "seconds": call.seconds,
        "call_outcome": call.outcome,
        "part": call.part,
    }
