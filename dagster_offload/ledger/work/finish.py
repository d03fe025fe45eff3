"""Finish: stores results, states, claims, the items of later stages and the events in one transaction. See
`sql/results.sql`.

Finishes are fenced: token, input digest and recipe must still match. If they do not, the answer is kept as a result because
it was paid for, and the state stays with the worker that holds the item now.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import CallRecord, Claim, ClaimedItem, NewResult
from dagster_offload.stages.graph import Outcome

# Characters of text per statement: Postgres accepts at most 1 GB. A longer text gets its own statement.
MOST_CHARACTERS = 10_000_000

_in_order = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


@dataclass(frozen=True)
class Finish:
    """A result on its way into the ledger."""

    claim: Claim
    item: ClaimedItem
    result: NewResult


def finish(
    cur: Cursor, worker_id: int, finishes: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None
) -> list[bool]:
    """Record results and everything that follows from them. Returns for each whether its claim still held the work item.

    A hundred results take as many statements as one. Of several results for one key, the first becomes current.
    """
    return [was_held for group in _groups(finishes) for was_held in _finish(cur, worker_id, group, recipes, run_id)]


def _groups(finishes: Sequence[Finish]) -> Iterator[list[Finish]]:
    """Split the results, in order, into groups that fit one statement."""
    group: list[Finish] = []
    characters = 0
    for entry in finishes:
        length = len(entry.result.text or "")
        if group and characters + length > MOST_CHARACTERS:
            yield group
            group, characters = [], 0
        group.append(entry)
        characters += length
    if group:
        yield group


def _finish(
    cur: Cursor, worker_id: int, group: Sequence[Finish], recipes: Mapping[str, str], run_id: str | None
) -> list[bool]:
    cur.execute(
        # The texts are sent in binary format: in text format each character would be checked for quotes.
        "select finish(%(finishes)s::jsonb, %(texts)b::text[], %(worker)s, %(run)s, %(recipes)s::jsonb) as n",
        {
            "finishes": json.dumps([_row(n, entry) for n, entry in enumerate(group, start=1)], ensure_ascii=False),
            "texts": [entry.result.text for entry in group],
            "worker": worker_id,
            "run": run_id,
            "recipes": json.dumps(dict(recipes)),
        },
    )
    held = {row["n"] for row in cur.fetchall()}
    return [n in held for n in range(1, len(group) + 1)]


def _row(n: int, entry: Finish) -> dict[str, Any]:
    result = entry.result
    call = result.in_all or (result.calls[-1] if result.calls else None)
    return {
        "n": n,
        "item_id": entry.item.item_id,
        "token": entry.claim.token,
        "document_id": entry.claim.document_id,
        "document": entry.claim.document,
        "stage": entry.item.stage,
        "input_digest": entry.item.input_digest,
        "recipe": entry.item.recipe,
        "outcome": result.outcome,
        "value": result.value,
        "output_digest": result.output_digest,
        "slot": call and call.slot,
        "url": call and call.url,
        "served_model": call and call.served_model,
        "model_evidence": call and call.model_evidence,
        "tokens_in": call and call.tokens_in,
        "tokens_out": call and call.tokens_out,
        "tokens_cached": call and call.tokens_cached,
        "seconds": call.seconds if call else result.seconds,
        "calls": [asdict(each) for each in result.calls],
    }


def complete_by_reuse(cur: Cursor, item_ids: Sequence[int], recipes: Mapping[str, str]) -> None:
    """Complete items for which a current result already exists: a renamed or copied file costs no call."""
    cur.execute("select complete_by_reuse(%s::bigint[], %s::jsonb, null)", [list(item_ids), json.dumps(dict(recipes))])


def lock_held(cur: Cursor, claim: Claim, item: ClaimedItem) -> dict[str, Any] | None:
    """Lock and return the work item's row if this claim still holds it with the same input and recipe; else None."""
    return cur.execute(
        "select * from work_items where item_id = %s and state = 'claimed' and token = %s and input_digest = %s "
        "and recipe = %s for update",
        [item.item_id, claim.token, item.input_digest, item.recipe],
    ).fetchone()


def record_call(cur: Cursor, worker_id: int, claim: Claim | None, item: ClaimedItem | None, call: CallRecord) -> None:
    """Store one completion as a row of `calls`. A call without a claim is a trial."""
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
    """SHA-256 (hex) of an extracted text or of a record. It is the data version; a text's is also the input digest of the
    stages that read it.

    A text that is no input (`empty`, `no_text`, `needs_ocr`) is hashed with its outcome, so that an empty file and a scanned
    image do not share one result.
    """
    text = output if isinstance(output, str) else _in_order(output)
    marked = text if outcome is Outcome.OK else f"{outcome}\0{text}"
    return hashlib.sha256(marked.encode()).hexdigest()
