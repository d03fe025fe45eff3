"""Finish: a result, the state, the claim, the downstream items and the event, in one transaction.

Fenced: token, input digest and recipe must still match. If not, the answer is kept as a result (it was paid for) and
the state is left to whoever holds it now.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, NewResult, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.ledger.slots.breaker import note_success
from dagster_offload.stages.graph import EXTRACT, UPSTREAM, Outcome


def finish(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    result: NewResult,
    recipes: Mapping[str, str],
    run_id: str | None,
) -> bool:
    """Record a result and everything that follows from it; True where this claim still held the work item."""
    held = lock_held(cur, claim, item)
    result_id = _store(cur, claim.document, item, result, replaces=held is not None and held["is_redo"])
    for call in result.calls:
        record_call(cur, worker_id, claim, item, call)
    if result.calls:
        note_success(cur, result.calls[-1].slot)
    if held is None:
        return False
    _mark_done(cur, item.item_id, result_id, run_id, from_state=State.CLAIMED, worker_id=worker_id)
    if item.stage == EXTRACT:
        create_downstream(cur, claim.document_id, recipes, run_id)
    return True


def lock_held(cur: Cursor, claim: Claim, item: ClaimedItem) -> dict[str, Any] | None:
    """The work item's row, locked, if this claim still holds it with the same input and recipe; else None."""
    return cur.execute(
        "select * from work_items where item_id = %s and state = 'claimed' and token = %s and input_digest = %s "
        "and recipe = %s for update",
        [item.item_id, claim.token, item.input_digest, item.recipe],
    ).fetchone()


def complete_by_reuse(cur: Cursor, item_id: int, recipes: Mapping[str, str], run_id: str | None) -> bool:
    """DONE at once where a current result for the item's key exists: a renamed or copied file costs no call."""
    item = fetch_one(
        cur, "select document_id, stage, state, input_digest from work_items where item_id = %s", [item_id]
    )
    found = cur.execute(
        "select result_id from results where stage = %s and input_digest = %s and recipe = %s and superseded_at is null",
        [item["stage"], item["input_digest"], recipes[item["stage"]]],
    ).fetchone()
    if found is None:
        return False
    _mark_done(cur, item_id, found["result_id"], run_id, from_state=State(item["state"]), worker_id=None)
    if item["stage"] == EXTRACT:
        create_downstream(cur, item["document_id"], recipes, run_id)
    return True


def create_downstream(cur: Cursor, document_id: int, recipes: Mapping[str, str], run_id: str | None) -> None:
    """The items that a done extraction makes possible: pending, or done at once where no call is needed.

    Where the text is the same as before (a redo), existing items stay as they are.
    """
    extract = fetch_one(
        cur,
        "select r.output_digest, r.outcome, d.priority, d.key from work_items x join results r using (result_id) "
        "join documents d on d.document_id = x.document_id where x.document_id = %s and x.stage = 'extract'",
        [document_id],
    )
    for stage, upstream in UPSTREAM.items():
        if upstream != EXTRACT:
            continue
        created = cur.execute(
            "insert into work_items as w (document_id, stage, input_digest, priority) values (%s, %s, %s, %s) "
            "on conflict (document_id, stage) do update set input_digest = excluded.input_digest, state = 'pending', "
            "  attempts = 0, deferrals = 0, reclaims = 0, lone_deaths = 0, must_run_alone = false, not_before = null, "
            "  is_redo = false, token = null, worker_id = null, claimed_at = null, reason = 'the text changed', "
            "  part_sizes = case when w.input_digest = excluded.input_digest then w.part_sizes end, "
            "  parts_done = 0, parts_total = null, "
            "  changed_at = clock_timestamp() "
            "  where w.input_digest is distinct from excluded.input_digest or w.state = 'gone' returning item_id",
            [document_id, stage, extract["output_digest"], extract["priority"]],
        ).fetchone()
        if created is None:
            continue
        record_transition(cur, document_id, stage, None, State.PENDING, None, "extract is done")
        if extract["outcome"] != Outcome.OK:
            _store_without_call(cur, extract["key"], stage, extract, recipes[stage])
        complete_by_reuse(cur, created["item_id"], recipes, run_id)


def _store_without_call(cur: Cursor, document: str, stage: str, extract: dict[str, Any], recipe: str) -> None:
    cur.execute(
        "insert into results (stage, input_digest, recipe, outcome, output_digest, first_document) "
        "values (%s, %s, %s, %s, %s, %s) "
        "on conflict (stage, input_digest, recipe) where superseded_at is null do nothing",
        [stage, extract["output_digest"], recipe, extract["outcome"], extract["output_digest"], document],
    )


def lock_keys(cur: Cursor, keys: Iterable[tuple[str, str, str]]) -> None:
    """Hold these results' keys until the transaction ends: two workers with the same key would each see no result.

    In one order everywhere: two groups that share keys would wait for each other.
    """
    cur.execute(
        "select pg_advisory_xact_lock(hashtext('result'), hashtext(key)) from unnest(%s::text[]) as key",
        [lock_names(keys)],
    )


def lock_names(keys: Iterable[tuple[str, str, str]]) -> list[str]:
    """The names of these keys' locks, in the order in which everybody takes them."""
    return sorted({"\t".join(key) for key in keys})


def _store(cur: Cursor, document: str, item: ClaimedItem, result: NewResult, *, replaces: bool) -> int:
    """Insert a result; returns the id of the current one for its key (an existing one stays unless replaced)."""
    key = (item.stage, item.input_digest, item.recipe)
    lock_keys(cur, [key])
    if replaces:
        cur.execute(
            "update results set superseded_at = clock_timestamp() "
            "where stage = %s and input_digest = %s and recipe = %s and superseded_at is null",
            key,
        )
    current = cur.execute(
        "select result_id from results where stage = %s and input_digest = %s and recipe = %s and superseded_at is null",
        key,
    ).fetchone()
    call = result.in_all or (result.calls[-1] if result.calls else None)
    inserted = fetch_one(
        cur,
        "insert into results (stage, input_digest, recipe, outcome, text, value, output_digest, slot, served_model, "
        "  model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document, superseded_at) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, case when %s then clock_timestamp() end) "
        "returning result_id",
        [
            *key,
            result.outcome,
            result.text,
            None if result.value is None else Jsonb(result.value),
            result.output_digest,
            call and call.slot,
            call and call.served_model,
            call and call.model_evidence,
            call and call.tokens_in,
            call and call.tokens_out,
            call and call.tokens_cached,
            call.seconds if call else result.seconds,
            document,
            current is not None,
        ],
    )
    return int((current or inserted)["result_id"])


def _mark_done(
    cur: Cursor,
    item_id: int,
    result_id: int,
    run_id: str | None,
    *,
    from_state: State,
    worker_id: int | None,
) -> None:
    row = fetch_one(
        cur,
        "update work_items w set state = 'done', outcome = r.outcome, result_id = r.result_id, recipe = r.recipe, "
        "  reason = null, not_before = null, worker_id = null, token = null, claimed_at = null, is_redo = false, "
        "  must_run_alone = false, changed_at = clock_timestamp() "
        "from results r, documents d where w.item_id = %s and r.result_id = %s and d.document_id = w.document_id "
        "returning w.document_id, w.stage, w.attempts, w.deferrals, nullif(r.first_document, d.key) as reused_from",
        [item_id, result_id],
    )
    why = f"reused from {row['reused_from']}" if row["reused_from"] else None
    record_transition(cur, row["document_id"], row["stage"], from_state, State.DONE, worker_id, why)
    cur.execute(
        "insert into outbox (result_id, document_id, stage, run_id, reused_from, attempts, deferrals) "
        "values (%s, %s, %s, %s, %s, %s, %s)",
        [
            result_id,
            row["document_id"],
            row["stage"],
            run_id,
            row["reused_from"],
            row["attempts"],
            row["deferrals"],
        ],
    )


def record_call(cur: Cursor, worker_id: int, claim: Claim | None, item: ClaimedItem | None, call: CallRecord) -> None:
    """One completion as a row of `calls`; without a claim it was a trial."""
    cur.execute(
        "insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, served_model, "
        "model_evidence, tokens_in, tokens_out, tokens_cached, seconds, outcome, part) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            item and item.item_id,
            claim and claim.document_id,
            item and item.stage,
            worker_id,
            call.slot,
            call.epoch,
            call.asked_model,
            call.served_model,
            call.model_evidence,
            call.tokens_in,
            call.tokens_out,
            call.tokens_cached,
            call.seconds,
            call.outcome,
            call.part,
        ],
    )


def output_digest(outcome: Outcome, output: str | Mapping[str, Any]) -> str:
    """SHA-256 of an extracted text or of a record: the data version, and a text's the input digest of what reads it.

    A text that is no input (`empty`, `no_text`, `needs_ocr`) is marked with its outcome, so that an empty file and a
    scan do not share one result.
    """
    text = output if isinstance(output, str) else json.dumps(output, sort_keys=True, ensure_ascii=False)
    marked = text if outcome is Outcome.OK else f"{outcome}\0{text}"
    return hashlib.sha256(marked.encode()).hexdigest()
