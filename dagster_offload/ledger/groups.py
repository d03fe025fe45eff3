"""Group commit: the finishes and claims of many lanes in one transaction, in a handful of statements however many.

Fences and outcomes are those of `results.finish` and `claims.take`. What is out of the ordinary (a claim that was lost,
a redo, a result that stands already) is finished by `results.finish` itself, in the same transaction.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.ledger import Cursor, claims, slots
from dagster_offload.ledger.breaker import note_success
from dagster_offload.ledger.records import BreakerState, Claim, ClaimedItem, NewResult, SlotRow
from dagster_offload.ledger.results import finish, lock_keys
from dagster_offload.stages import EXTRACT


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


# The slot as it was at the claim: a call's epoch is that of its claim. None where its breaker is not closed, or nothing is due.
Taken = tuple[SlotRow, Claim | None]


def commit(
    cur: Cursor,
    worker_id: int,
    finishes: Sequence[Finish],
    wants: Sequence[Want],
    recipes: Mapping[str, str],
    run_id: str | None,
) -> tuple[list[bool], list[Taken]]:
    """All finishes, then all claims: whether each result's claim still held its item, and what each want got."""
    held = _finish_all(cur, worker_id, finishes, recipes, run_id) if finishes else []
    return held, _take_all(cur, worker_id, wants, recipes, run_id) if wants else []


def _take_all(
    cur: Cursor, worker_id: int, wants: Sequence[Want], recipes: Mapping[str, str], run_id: str | None
) -> list[Taken]:
    found: dict[Want, tuple[SlotRow, list[Claim]]] = {}
    for want in set(wants):
        row = slots.get(cur, want.slot)
        if row is None:
            raise KeyError(f"slot {want.slot} was forgotten while work was under way")
        taken = []
        if row.breaker is BreakerState.CLOSED:
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
    return [(found[want][0], found[want][1].pop(0) if found[want][1] else None) for want in wants]


def _finish_all(
    cur: Cursor, worker_id: int, finishes: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None
) -> list[bool]:
    by_key = {entry.key: entry for entry in finishes if _may_be_ordinary(entry)}
    held = _lock_held(cur, list(by_key.values()))
    lock_keys(cur, [entry.key for entry in finishes])
    ordinary = [entry for entry in by_key.values() if entry.item.item_id in held]
    done = _write(cur, worker_id, ordinary, run_id) if ordinary else set()
    for slot in {entry.result.calls[0].slot for entry in ordinary}:
        note_success(cur, slot)
    return [
        (entry.item.item_id in done and by_key[entry.key] is entry)
        or finish(cur, worker_id, entry.claim, entry.item, entry.result, recipes, run_id)
        for entry in finishes
    ]


def _may_be_ordinary(entry: Finish) -> bool:
    return entry.item.stage != EXTRACT and len(entry.result.calls) == 1 and entry.result.in_all is None


def _lock_held(cur: Cursor, finishes: Sequence[Finish]) -> set[int]:
    """The items still held by these claims for the same input and recipe, and no redo; locked."""
    cur.execute(
        "select w.item_id from work_items w "
        "join unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[]) as f(item_id, token, input_digest, recipe) "
        "  using (item_id) where w.state = 'claimed' and w.token = f.token and w.input_digest = f.input_digest "
        "  and w.recipe = f.recipe and not w.is_redo order by w.item_id for update of w",
        [
            [entry.item.item_id for entry in finishes],
            [entry.claim.token for entry in finishes],
            [entry.item.input_digest for entry in finishes],
            [entry.item.recipe for entry in finishes],
        ],
    )
    return {row["item_id"] for row in cur.fetchall()}


def _write(cur: Cursor, worker_id: int, finishes: Sequence[Finish], run_id: str | None) -> set[int]:
    """Result, call, state, transition and event of each; returns the items done: those whose key had no result yet."""
    cur.execute(
        """
        with f as materialized (
            select * from jsonb_to_recordset(%(rows)s::jsonb) as f (
                item_id bigint, document_id bigint, first_document text, stage text, input_digest text, recipe text,
                outcome text, value jsonb, output_digest text, slot text, epoch bigint, asked_model text,
                served_model text, model_evidence text, tokens_in integer, tokens_out integer, tokens_cached integer,
                seconds double precision, call_outcome text, part text)
        ), stored as (
            insert into results (stage, input_digest, recipe, outcome, value, output_digest, slot, served_model,
                model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document)
            select stage, input_digest, recipe, outcome, value, output_digest, slot, served_model, model_evidence,
                tokens_in, tokens_out, tokens_cached, seconds, first_document from f
            on conflict (stage, input_digest, recipe) where superseded_at is null do nothing
            returning result_id, stage, input_digest, recipe
        ), done as (
            update work_items w set state = 'done', outcome = f.outcome, result_id = stored.result_id, recipe = f.recipe,
                reason = null, not_before = null, worker_id = null, token = null, claimed_at = null, is_redo = false,
                must_run_alone = false, changed_at = clock_timestamp()
            from f join stored using (stage, input_digest, recipe) where w.item_id = f.item_id
            returning w.item_id, w.document_id, w.stage, w.result_id, w.attempts, w.deferrals
        ), called as (
            insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, served_model,
                model_evidence, tokens_in, tokens_out, tokens_cached, seconds, outcome, part)
            select f.item_id, f.document_id, f.stage, %(worker)s, f.slot, f.epoch, f.asked_model, f.served_model,
                f.model_evidence, f.tokens_in, f.tokens_out, f.tokens_cached, f.seconds, f.call_outcome, f.part
            from f join done using (item_id)
        ), moved as (
            insert into transitions (document_id, stage, from_state, to_state, worker_id)
            select document_id, stage, 'claimed', 'done', %(worker)s from done order by item_id
        ), queued as (
            insert into outbox (result_id, document_id, stage, run_id, attempts, deferrals)
            select result_id, document_id, stage, %(run)s, attempts, deferrals from done order by item_id
        )
        select item_id from done
        """,
        {"rows": json.dumps([_row(entry) for entry in finishes]), "worker": worker_id, "run": run_id},
    )
    return {row["item_id"] for row in cur.fetchall()}


def _row(entry: Finish) -> dict[str, Any]:
    (call,) = entry.result.calls
    return {
        "item_id": entry.item.item_id,
        "document_id": entry.claim.document_id,
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
