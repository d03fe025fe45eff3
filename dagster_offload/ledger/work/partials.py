"""Parts of long documents: stores each answer as it arrives, how a document is split, and the progress.

There is still one work item per document and stage, with one claim, one result and one event. Answers are stored by content
(stage, recipe, text, question), so a worker that resumes the document, or a copy of it, makes only the missing calls.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, NewResult
from dagster_offload.ledger.slots.breaker import note_success
from dagster_offload.ledger.work.finish import Finish, finish, lock_held, record_call
from dagster_offload.slot.chat import MOST_TOKENS
from dagster_offload.stages.prompts.splitting import Sizes


def answers(cur: Cursor, item: ClaimedItem) -> dict[str, dict[str, Any]]:
    """The stored answers for this item's text, by the digest of the question."""
    cur.execute(
        "select part_digest, answer from part_answers where stage = %s and input_digest = %s and recipe = %s",
        [item.stage, item.input_digest, item.recipe],
    )
    return {row["part_digest"]: row["answer"] for row in cur.fetchall()}


def begin(cur: Cursor, claim: Claim, item: ClaimedItem, sizes: Sizes, done: int, total: int | None) -> None:
    """Store how the document is split, so that a worker that resumes splits it the same way, and the progress."""
    cur.execute(
        "update work_items set part_sizes = %s, parts_done = %s, parts_total = %s "
        "where item_id = %s and state = 'claimed' and token = %s",
        [_stored(sizes), done, total, item.item_id, claim.token],
    )


def keep(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    digest: str,
    answer: dict[str, Any],
    call: CallRecord,
    done: int,
) -> bool:
    """Store a part's answer in any case, because it was paid for. If this claim still holds the item, update its progress
    and return True."""
    cur.execute(
        "insert into part_answers (stage, recipe, input_digest, part_digest, answer, tokens_in, tokens_out, "
        "  tokens_cached, seconds) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
        [
            item.stage,
            item.recipe,
            item.input_digest,
            digest,
            Jsonb(answer),
            call.tokens_in,
            call.tokens_out,
            call.tokens_cached,
            call.seconds,
        ],
    )
    record_call(cur, worker_id, claim, item, call)
    note_success(cur, call.slot, item.stage, call.url)
    if lock_held(cur, claim, item) is None:
        return False
    # A book takes hours. Faults before a part was answered show nothing about the next part.
    cur.execute(
        "update work_items set parts_done = %s, reclaims = 0, lone_deaths = 0, must_run_alone = false where item_id = %s",
        [done, item.item_id],
    )
    return True


def split_smaller(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    call: CallRecord,
    sizes: Sizes,
    done: int,
    total: int | None,
) -> None:
    """Store smaller sizes after a part did not fit the model's context. Costs no attempt.

    If that was the first part, the document's other stages use the new sizes too.
    """
    record_call(cur, worker_id, claim, item, call)
    if lock_held(cur, claim, item) is None:
        return
    begin(cur, claim, item, sizes, done, total)
    if len(sizes) == 1:
        cur.execute(
            "update work_items set part_sizes = %s where document_id = %s and stage <> first_stage() "
            "and part_sizes is null and state in ('pending', 'deferred', 'claimed')",
            [_stored(sizes), claim.document_id],
        )


def finish_in_parts(
    cur: Cursor,
    worker_id: int,
    claim: Claim,
    item: ClaimedItem,
    result: NewResult,
    recipes: Mapping[str, str],
    run_id: str | None,
) -> bool:
    """`finish` for a document that was read in parts. The result has the sums of their tokens and seconds. The parts'
    answers are deleted: the same text later reuses the result, and a redo makes all calls again. Returns whether the claim
    still held the item.
    """
    last = result.calls[-1]
    spent = fetch_one(
        cur,
        # A server may report absurd numbers; a sum that does not fit would fail the document again and again.
        "select least(sum(tokens_in), %(most)s)::integer as tokens_in, least(sum(tokens_out), %(most)s)::integer as tokens_out, "
        "least(sum(tokens_cached), %(most)s)::integer as tokens_cached, coalesce(sum(seconds), 0) as seconds from part_answers "
        "where stage = %(stage)s and input_digest = %(input)s and recipe = %(recipe)s",
        {"most": MOST_TOKENS, "stage": item.stage, "input": item.input_digest, "recipe": item.recipe},
    )
    in_all = replace(
        last,
        tokens_in=_added(spent["tokens_in"], last.tokens_in),
        tokens_out=_added(spent["tokens_out"], last.tokens_out),
        tokens_cached=_added(spent["tokens_cached"], last.tokens_cached),
        seconds=spent["seconds"] + last.seconds,
    )
    [was_held] = finish(cur, worker_id, [Finish(claim, item, replace(result, in_all=in_all))], recipes, run_id)
    cur.execute(
        "delete from part_answers where stage = %s and input_digest = %s and recipe = %s",
        [item.stage, item.input_digest, item.recipe],
    )
    return was_held


def _added(before: int | None, last: int | None) -> int | None:
    return None if before is None and last is None else min((before or 0) + (last or 0), MOST_TOKENS)


def _stored(sizes: Sizes) -> Jsonb:
    return Jsonb([[size.start, size.tokens] for size in sizes])
