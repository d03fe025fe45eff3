"""Claims: a worker's hold on one document's due work items, with a fencing token; and which items are due."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dagster_offload.ledger import Cursor, fetch_one
from dagster_offload.ledger.records import Claim, ClaimedItem, State
from dagster_offload.ledger.results import complete_by_reuse
from dagster_offload.ledger.workers import lock_alive, record_transition
from dagster_offload.stages import EXTRACT, STAGE_NAMES

# Of a work item `i`: its time has come, or the slot that put it off has closed its breaker since.
_CLOSED_SINCE = "exists (select 1 from slots s where s.name = i.deferred_slot and s.epoch > i.deferred_epoch)"
DUE = (
    "i.state in ('pending', 'deferred') and (i.not_before is null or i.not_before <= clock_timestamp() "
    f"or (i.state = 'deferred' and {_CLOSED_SINCE}))"
)
# The same, or another slot than this one put it off. The states stay outside the brackets: the index needs them there.
DUE_AT_SLOT = (
    "i.state in ('pending', 'deferred') and (i.not_before is null or i.not_before <= clock_timestamp() "
    f"or (i.state = 'deferred' and (i.deferred_slot <> %(slot)s::text or {_CLOSED_SINCE})))"
)

# Nobody holds a stage of its document, or the same input in another document.
UNHELD = (
    "not exists (select 1 from work_items o where o.document_id = i.document_id and o.state = 'claimed') "
    "and not exists (select 1 from work_items o where o.state = 'claimed' and o.stage = i.stage "
    "and o.input_digest = i.input_digest)"
)


def take(
    cur: Cursor,
    worker_id: int,
    stages: Sequence[str],
    recipes: Mapping[str, str],
    documents: Sequence[str] | None = None,
    *,
    alone: bool = False,
    slot: str | None = None,
    run_id: str | None = None,
) -> Claim | None:
    """Claim one document with due work in `stages`, highest priority first, then oldest; None where there is none.

    `documents` limits the choice to these keys; `alone` takes only documents that must run alone, and else none of them;
    work that another slot than `slot` put off is due here. Items whose result exists already are completed here, at no
    call: the claim then holds the rest, perhaps nothing. A document or an input that another worker holds is left to it,
    and a worker the ledger has given up gets nothing.
    Safe beside other claimers: row locks with skip locked (PostgreSQL manual, SELECT), then a second look at the items
    under the lock.
    """
    if not lock_alive(cur, worker_id):
        return None
    where = (
        f"{DUE_AT_SLOT} and i.stage = any(%(stages)s) and i.must_run_alone = %(alone)s and i.input_digest is not null"
    )
    parameters = {
        "stages": list(stages),
        "alone": alone,
        "documents": None if documents is None else list(documents),
        "slot": slot,
        "worker": worker_id,
    }
    while True:
        cur.execute(
            "select d.document_id, d.key from work_items i join documents d using (document_id) "
            f"where {where} and d.is_present "
            + (
                "and i.document_id = any(array(select document_id from documents where key = any(%(documents)s))) "
                if documents is not None
                else ""
            )
            + f"and {UNHELD} order by i.priority desc, i.document_id limit 1 for update of d skip locked",
            parameters,
        )
        document = cur.fetchone()
        if document is None:
            return None
        claim = _claim_items(cur, where, parameters | document, recipes, run_id)
        if claim is not None:
            return claim


def _claim_items(
    cur: Cursor, where: str, parameters: dict[str, object], recipes: Mapping[str, str], run_id: str | None
) -> Claim | None:
    """Claim the locked document's items as they are now; None where somebody took them between look and lock."""
    # Two documents with the same content must not be claimed at the same instant: their claimers would both pay.
    cur.execute(
        "select i.item_id from work_items i where i.document_id = %(document_id)s "
        f"and {where} and pg_try_advisory_xact_lock(hashtext('input ' || i.stage), hashtext(i.input_digest))",
        parameters,
    )
    ours = [row["item_id"] for row in cur.fetchall()]
    cur.execute(
        "with due as (select i.item_id, i.state from work_items i where i.item_id = any(%(ours)s) "
        f"  and {where} and {UNHELD} for update), token as (select nextval('claim_tokens') as token) "
        "update work_items w set state = 'claimed', worker_id = %(worker)s, token = token.token, "
        "  recipe = (%(recipes)s::jsonb) ->> w.stage, claimed_at = clock_timestamp(), claimed_alone = %(alone)s, "
        "  not_before = null, changed_at = clock_timestamp() from due, token where w.item_id = due.item_id "
        "returning w.item_id, w.stage, w.input_digest, w.recipe, w.attempts, w.deferrals, w.part_sizes, w.token, w.is_redo, "
        "  due.state as from_state",
        parameters | {"recipes": json.dumps(dict(recipes)), "ours": ours},
    )
    rows = sorted(cur.fetchall(), key=lambda row: STAGE_NAMES.index(row["stage"]))
    if not rows:
        return None
    document_id, key = int(str(parameters["document_id"])), str(parameters["key"])
    items = []
    for row in rows:
        if not row["is_redo"] and complete_by_reuse(cur, row["item_id"], recipes, run_id):
            continue
        record_transition(
            cur, document_id, row["stage"], row["from_state"], State.CLAIMED, int(str(parameters["worker"])), None
        )
        items.append(ClaimedItem(**{name: row[name] for name in _ITEM_FIELDS}))
    needs_text = any(item.stage != EXTRACT for item in items)
    return Claim(
        token=rows[0]["token"],
        document_id=document_id,
        document=key,
        is_alone=bool(parameters["alone"]),
        text=_text_of(cur, document_id) if needs_text else None,
        items=tuple(items),
    )


_ITEM_FIELDS = ("item_id", "stage", "input_digest", "recipe", "attempts", "deferrals", "part_sizes")


def _text_of(cur: Cursor, document_id: int) -> str | None:
    row = cur.execute(
        "select r.text from work_items x join results r using (result_id) "
        "where x.document_id = %s and x.stage = 'extract'",
        [document_id],
    ).fetchone()
    return None if row is None else row["text"]


def release(cur: Cursor, worker_id: int, claim: Claim, reason: str) -> None:
    """Give back whatever of a claim is still held, at no cost: untouched work stays pending."""
    cur.execute(
        "update work_items set state = 'pending', reason = %s, worker_id = null, token = null, claimed_at = null, "
        "changed_at = clock_timestamp() where document_id = %s and state = 'claimed' and token = %s returning stage",
        [reason, claim.document_id, claim.token],
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], State.CLAIMED, State.PENDING, worker_id, reason)


def postpone(cur: Cursor, worker_id: int, claim: Claim, reason: str, seconds: float) -> None:
    """Give a claim back at no cost, not to be taken again for `seconds`."""
    release(cur, worker_id, claim, reason)
    cur.execute(
        "update work_items set not_before = clock_timestamp() + make_interval(secs => %s) "
        "where item_id = any(%s) and state = 'pending'",
        [seconds, [item.item_id for item in claim.items]],
    )


def count_due(
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None = None, *, slot: str | None = None
) -> int:
    """Documents with work in `stages` that could be claimed now (at `slot`), all of them or those of `documents`."""
    row = fetch_one(
        cur, f"select count(distinct i.document_id) as n from {_DUE_ITEMS}", _due_parameters(stages, documents, slot)
    )
    return int(row["n"])


def has_due(
    cur: Cursor,
    stages: Sequence[str],
    documents: Sequence[str] | None = None,
    *,
    alone: bool = False,
    slot: str | None = None,
) -> bool:
    """Whether there is any such document, of those that must run alone or of the others. Does not count a backlog."""
    row = fetch_one(
        cur,
        f"select exists (select 1 from {_DUE_ITEMS} and i.must_run_alone = %(alone)s) as is_due",
        _due_parameters(stages, documents, slot) | {"alone": alone},
    )
    return bool(row["is_due"])


_DUE_ITEMS = (
    f"work_items i where {DUE_AT_SLOT} and i.stage = any(%(stages)s) and i.input_digest is not null "
    "and (%(documents)s::text[] is null "
    "or i.document_id = any(array(select document_id from documents where key = any(%(documents)s))))"
)


def _due_parameters(stages: Sequence[str], documents: Sequence[str] | None, slot: str | None) -> dict[str, object]:
    return {"stages": list(stages), "documents": None if documents is None else list(documents), "slot": slot}


def count_waiting(cur: Cursor, stages: Sequence[str]) -> int:
    """Documents with work in `stages` that was put off because the slot is away, and is not due yet."""
    row = fetch_one(
        cur,
        "select count(distinct i.document_id) as n from work_items i where i.state = 'deferred' "
        f"and i.stage = any(%s) and not ({DUE})",
        [list(stages)],
    )
    return int(row["n"])


def count_claimed_elsewhere(cur: Cursor, stages: Sequence[str], worker_id: int) -> int:
    """Documents with work in `stages` that other workers hold."""
    row = fetch_one(
        cur,
        "select count(distinct document_id) as n from work_items where state = 'claimed' and stage = any(%s) "
        "and worker_id <> %s",
        [list(stages), worker_id],
    )
    return int(row["n"])


@dataclass(frozen=True)
class Unfinished:
    """A work item a run still waits for. `seconds_to_due` is None where it is due, held, or never comes due by itself."""

    document: str
    stage: str
    state: State
    reason: str | None
    attempts: int
    seconds_to_due: float | None


def unfinished(cur: Cursor, documents: Sequence[str], stages: Sequence[str]) -> list[Unfinished]:
    """The work items between these documents and a result in each of `stages`; empty = all done.

    An item that does not exist yet is told as its upstream's.
    """
    cur.execute(
        "select d.key as document, wanted.stage as wanted, i.stage, i.state, i.reason, i.attempts, "
        f"  case when {DUE} then null else extract(epoch from i.not_before - clock_timestamp()) end as seconds_to_due "
        "from unnest(%(documents)s::text[]) as asked(key) join documents d on d.key = asked.key "
        "cross join unnest(%(stages)s::text[]) as wanted(stage) "
        "left join work_items w on w.document_id = d.document_id and w.stage = wanted.stage "
        "left join work_items i on i.document_id = d.document_id "
        "  and i.stage = case when w.item_id is null then 'extract' else wanted.stage end "
        "where w.state is distinct from 'done'",
        {"documents": list(documents), "stages": list(stages)},
    )
    found = {
        (row["document"], row["stage"] or row["wanted"]): Unfinished(
            document=row["document"],
            stage=row["stage"] or row["wanted"],
            state=State(row["state"] or State.PENDING),
            reason=row["reason"],
            attempts=row["attempts"] or 0,
            seconds_to_due=None if row["seconds_to_due"] is None else max(float(row["seconds_to_due"]), 0.0),
        )
        for row in cur.fetchall()
    }
    return list(found.values())
