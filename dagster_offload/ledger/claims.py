"""Claims: a worker's hold on one document's due work items, with a fencing token; and which items are due."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dagster_offload.ledger import Cursor, fetch_one
from dagster_offload.ledger.records import Claim, ClaimedItem, State
from dagster_offload.ledger.results import complete_by_reuse
from dagster_offload.ledger.workers import lock_alive, record_transition
from dagster_offload.stages import EXTRACT, STAGE_NAMES

# Of a work item `i`: its time has come, or the slot that put it off has closed its breaker since.
# The epochs are read once a query: looked up for each item, 30,000 that wait cost a claim 0.1 s.
_CLOSED_SINCE = (
    "coalesce(((select jsonb_object_agg(s.name, s.epoch) from slots s) ->> i.deferred_slot)::bigint "
    "> i.deferred_epoch, false)"
)
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
    taken = take_many(cur, worker_id, stages, recipes, documents, count=1, alone=alone, slot=slot, run_id=run_id)
    return taken[0] if taken else None


def take_many(
    cur: Cursor,
    worker_id: int,
    stages: Sequence[str],
    recipes: Mapping[str, str],
    documents: Sequence[str] | None = None,
    *,
    count: int,
    alone: bool = False,
    slot: str | None = None,
    run_id: str | None = None,
) -> list[Claim]:
    """`take` for up to `count` documents, in as many statements as for one. None is claimed that is not returned."""
    if not lock_alive(cur, worker_id):
        return []
    parameters: dict[str, Any] = {
        "stages": list(stages),
        "alone": alone,
        "documents": None if documents is None else list(documents),
        "slot": slot,
        "worker": worker_id,
        "recipes": json.dumps(dict(recipes)),
    }
    taken: list[Claim] = []
    while len(taken) < count:
        locked = _lock_documents(cur, parameters, count - len(taken))
        if not locked:
            break
        claims = _claim_items(cur, parameters, locked, recipes, run_id)
        if taken and not claims:
            break  # somebody takes them at this very moment; where we have nothing yet, we look again
        taken += claims
    return taken


_MAY_BE_CLAIMED = (
    f"{DUE_AT_SLOT} and i.stage = any(%(stages)s) and i.must_run_alone = %(alone)s and i.input_digest is not null"
)
# Several documents are asked for by one row each, so that no more are locked than are claimed.
_FIRST_OF_ITS_DOCUMENT = (
    "not exists (select 1 from work_items e where e.document_id = i.document_id and e.item_id < i.item_id "
    f"and {DUE_AT_SLOT.replace('i.', 'e.')} and e.stage = any(%(stages)s) and e.must_run_alone = %(alone)s "
    "and e.input_digest is not null)"
)


def _lock_documents(cur: Cursor, parameters: Mapping[str, Any], count: int) -> dict[int, str]:
    """Up to `count` documents with work to claim, locked, in the order of their turn: their ids and keys."""
    cur.execute(
        "select d.document_id, d.key from work_items i join documents d using (document_id) "
        f"where {_MAY_BE_CLAIMED} and d.is_present "
        + (
            "and i.document_id = any(array(select document_id from documents where key = any(%(documents)s))) "
            if parameters["documents"] is not None
            else ""
        )
        + (f"and {_FIRST_OF_ITS_DOCUMENT} " if count > 1 else "")
        + f"and {UNHELD} order by i.priority desc, i.document_id limit %(count)s for update of d skip locked",
        {**parameters, "count": count},
    )
    return {row["document_id"]: row["key"] for row in cur.fetchall()}


def _claim_items(
    cur: Cursor,
    parameters: Mapping[str, Any],
    locked: Mapping[int, str],
    recipes: Mapping[str, str],
    run_id: str | None,
) -> list[Claim]:
    """Claim the locked documents' items as they are now; nothing where somebody took them between look and lock."""
    # Two documents with the same content must not be claimed at the same instant: their claimers would both pay.
    cur.execute(
        "select distinct on (i.stage, i.input_digest) i.item_id from work_items i "
        f"where i.document_id = any(%(ids)s) and {_MAY_BE_CLAIMED} "
        "and pg_try_advisory_xact_lock(hashtext('input ' || i.stage), hashtext(i.input_digest)) "
        "order by i.stage, i.input_digest, i.document_id",
        {**parameters, "ids": list(locked)},
    )
    ours = [row["item_id"] for row in cur.fetchall()]
    cur.execute(
        "with due as (select i.item_id, i.state from work_items i where i.item_id = any(%(ours)s) "
        f"  and {_MAY_BE_CLAIMED} and {UNHELD} order by i.item_id for update), "
        "tokens as (select document_id, nextval('claim_tokens') as token from unnest(%(ids)s::bigint[]) as document_id) "
        "update work_items w set state = 'claimed', worker_id = %(worker)s, token = tokens.token, "
        "  recipe = (%(recipes)s::jsonb) ->> w.stage, claimed_at = clock_timestamp(), claimed_alone = %(alone)s, "
        "  not_before = null, changed_at = clock_timestamp() from due, tokens "
        "where w.item_id = due.item_id and w.document_id = tokens.document_id "
        "returning w.item_id, w.document_id, w.stage, w.input_digest, w.recipe, w.attempts, w.deferrals, w.part_sizes, "
        "  w.token, w.is_redo, due.state as from_state",
        {**parameters, "ours": ours, "ids": list(locked)},
    )
    rows = sorted(cur.fetchall(), key=lambda row: STAGE_NAMES.index(row["stage"]))
    answered = _with_result(cur, [row["item_id"] for row in rows if not row["is_redo"]])
    asked = [
        row
        for row in rows
        if not (row["item_id"] in answered and complete_by_reuse(cur, row["item_id"], recipes, run_id))
    ]
    _record_claims(cur, parameters["worker"], asked)
    texts = _texts_of(cur, [row["document_id"] for row in rows if row["stage"] != EXTRACT])
    return [
        Claim(
            token=next(row["token"] for row in rows if row["document_id"] == document_id),
            document_id=document_id,
            document=key,
            is_alone=parameters["alone"],
            text=texts.get(document_id),
            items=tuple(
                ClaimedItem(**{name: row[name] for name in _ITEM_FIELDS})
                for row in asked
                if row["document_id"] == document_id
            ),
        )
        for document_id, key in locked.items()
        if any(row["document_id"] == document_id for row in rows)
    ]


_ITEM_FIELDS = ("item_id", "stage", "input_digest", "recipe", "attempts", "deferrals", "part_sizes")


def _with_result(cur: Cursor, item_ids: Sequence[int]) -> set[int]:
    """Those of these claimed items whose question has been answered before."""
    cur.execute(
        "select i.item_id from work_items i join results r on r.stage = i.stage and r.input_digest = i.input_digest "
        "and r.recipe = i.recipe and r.superseded_at is null where i.item_id = any(%s)",
        [list(item_ids)],
    )
    return {row["item_id"] for row in cur.fetchall()}


def _record_claims(cur: Cursor, worker_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    cur.execute(
        "insert into transitions (document_id, stage, from_state, to_state, worker_id) "
        "select f.document_id, f.stage, f.from_state, 'claimed', %s "
        "from unnest(%s::bigint[], %s::text[], %s::text[]) as f(document_id, stage, from_state)",
        [worker_id, *([row[name] for row in rows] for name in ("document_id", "stage", "from_state"))],
    )


def _texts_of(cur: Cursor, document_ids: Sequence[int]) -> dict[int, str]:
    if not document_ids:
        return {}
    cur.execute(
        "select x.document_id, r.text from work_items x join results r using (result_id) "
        "where x.document_id = any(%s) and x.stage = 'extract'",
        [list(document_ids)],
    )
    return {row["document_id"]: row["text"] for row in cur.fetchall()}


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


@dataclass(frozen=True)
class Backlog:
    """Documents due and documents put off, for somebody who decides: counted up to `MOST_COUNTED`, and no further."""

    due: int
    waiting: int

    def __str__(self) -> str:
        return f"{_shown(self.due)} documents due, {_shown(self.waiting)} deferred"


MOST_COUNTED = 1_000


def _shown(count: int) -> str:
    return str(count) if count < MOST_COUNTED else f"{MOST_COUNTED:,} or more"


def backlog(cur: Cursor, stages: Sequence[str]) -> Backlog:
    """What is due in `stages`, and what was put off because the slot is away; costs the same however much there is."""
    found = {}
    for name, items in (
        ("due", _DUE_ITEMS),
        ("waiting", f"work_items i where i.state = 'deferred' and i.stage = any(%(stages)s) and not ({DUE})"),
    ):
        row = fetch_one(
            cur,
            f"select count(distinct document_id) as n from (select i.document_id from {items} limit %(most)s) counted",
            _due_parameters(stages, None, None) | {"most": MOST_COUNTED * len(stages)},
        )
        found[name] = min(int(row["n"]), MOST_COUNTED)
    return Backlog(**found)


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
