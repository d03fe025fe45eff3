"""Claims: a worker's hold on one document's due work items, with a fencing token. Also counts which items are due."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import Claim, ClaimedItem, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.stages.graph import StageGraph

# Conditions on a work item `i` (`is_due` and `epochs` are in `sql/claims.sql`). The states are outside `is_due` so that the
# index is used.
DUE_AT_SLOT = "i.state in ('pending', 'deferred') and is_due(i, %(slot)s, (select epochs()))"
DUE = DUE_AT_SLOT.replace("%(slot)s", "null")


def take(
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
    """Claim up to `count` documents with due work in `stages`, highest priority first, then oldest. See `sql/claims.sql`.

    `documents` limits the choice to these keys. With `alone`, only documents that must run alone are taken, otherwise none of
    them. Work that a slot other than `slot` deferred is due here. Items whose result already exists are completed here
    without a call; the claim holds the others, if any. A document or an input that another worker holds is skipped. A
    worker that was reclaimed gets nothing.
    Safe with concurrent workers: rows are locked with `skip locked` (PostgreSQL manual, SELECT), and the items are checked
    again under the lock.
    """
    if alone:
        documents = least_failed(cur, stages, documents, slot)
    cur.execute(
        "select * from take(%(worker)s, %(stages)s, %(recipes)s::jsonb, case when %(documents)s::text[] is not null "
        "then array(select document_id from documents where key = any(%(documents)s::text[])) end, %(count)s, %(alone)s, "
        "%(slot)s, %(run)s)",
        {
            "worker": worker_id,
            "stages": list(stages),
            "recipes": json.dumps(dict(recipes)),
            "documents": None if documents is None else list(documents),
            "count": count,
            "alone": alone,
            "slot": slot,
            "run": run_id,
        },
    )
    return [
        Claim(
            token=row["token"],
            document_id=row["document_id"],
            document=row["key"],
            is_alone=alone,
            text=row["text"],
            items=tuple(ClaimedItem(**{name: item[name] for name in _ITEM_FIELDS}) for item in row["items"]),
        )
        for row in cur.fetchall()
    ]


_ITEM_FIELDS = tuple(field.name for field in fields(ClaimedItem))


def least_failed(cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None, slot: str | None) -> list[str]:
    """Keys of the due documents that must run alone and whose calls failed together with a slot least often.

    They run first. Otherwise one document that crashes its server would block the others that must run alone.
    """
    cur.execute(
        "select key from (select d.key, rank() over (order by (select count(distinct (c.slot, c.epoch)) "
        "  from cuts c join work_items w using (item_id) where w.document_id = d.document_id)) as place "
        f"from documents d where d.document_id in (select i.document_id from {_DUE_ITEMS} and i.must_run_alone)) ranked "
        "where place = 1",
        _due_parameters(stages, documents, slot),
    )
    return [row["key"] for row in cur.fetchall()]


def release(cur: Cursor, worker_id: int, claim: Claim, reason: str) -> None:
    """Return the items of a claim that are still held. They become pending, and no attempt is counted."""
    cur.execute(
        "update work_items set state = 'pending', reason = %s, changed_at = clock_timestamp() "
        "where document_id = %s and state = 'claimed' and token = %s returning stage",
        [reason, claim.document_id, claim.token],
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], State.CLAIMED, State.PENDING, worker_id, reason)


def postpone(cur: Cursor, worker_id: int, claim: Claim, reason: str, seconds: float) -> None:
    """`release` a claim, and keep its items from being claimed again for `seconds`."""
    release(cur, worker_id, claim, reason)
    cur.execute(
        "update work_items set not_before = clock_timestamp() + make_interval(secs => %s) "
        "where item_id = any(%s) and state = 'pending'",
        [seconds, [item.item_id for item in claim.items]],
    )


def count_due(
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None = None, *, slot: str | None = None
) -> int:
    """How many documents (of `documents`, else all) have work in `stages` that could be claimed now at `slot`."""
    row = fetch_one(
        cur,
        # Items that wait for no time are read from their index alone, in the order of documents. The others are few.
        "select (select count(*) from (select distinct i.document_id from work_items i "
        f"  where {_is_undelayed('i')} and {_OF_DOCUMENTS}) undelayed) "
        f"+ (select count(distinct i.document_id) from {_DUE_ITEMS} and i.not_before is not null and not exists ("
        f"  select from work_items o where o.document_id = i.document_id and {_is_undelayed('o')})) as n",
        _due_parameters(stages, documents, slot),
    )
    return int(row["n"])


@dataclass(frozen=True)
class Backlog:
    """How many documents are due and how many are deferred. Each count stops at `MOST_COUNTED`."""

    due: int
    waiting: int

    def __str__(self) -> str:
        documents = "document" if self.due == 1 else "documents"
        return f"{shown_count(self.due)} {documents} due, {shown_count(self.waiting)} deferred"


MOST_COUNTED = 1_000


def shown_count(count: int) -> str:
    """A count that stops at `MOST_COUNTED`, for people."""
    return str(count) if count < MOST_COUNTED else f"{MOST_COUNTED:,} or more"


def backlog(cur: Cursor, stages: Sequence[str], slot: str | None = None) -> Backlog:
    """What is due in `stages` at `slot`, and what is deferred because that slot is unavailable. The cost is bounded."""
    counts = {}
    for name, items in (
        ("due", _DUE_ITEMS),
        ("waiting", f"work_items i where i.state = 'deferred' and i.stage = any(%(stages)s) and not ({DUE_AT_SLOT})"),
    ):
        counts[name] = _count_up_to(cur, MOST_COUNTED, items, _due_parameters(stages, None, slot))
    return Backlog(**counts)


def due_beside(
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None = None, *, slot: str, at_most: int
) -> int:
    """Like `count_due`, without documents that must run alone; the count stops at `at_most`."""
    items = f"{_DUE_ITEMS} and not i.must_run_alone"
    return _count_up_to(cur, at_most, items, _due_parameters(stages, documents, slot))


def _count_up_to(cur: Cursor, most: int, items: str, parameters: dict[str, Any]) -> int:
    """How many documents these work items have, up to `most`. A document has at most one item per stage, so the cost is
    bounded."""
    row = fetch_one(
        cur,
        f"select count(distinct document_id) as n from (select i.document_id from {items} limit %(items)s) counted",
        parameters | {"items": most * len(parameters["stages"])},
    )
    return min(int(row["n"]), most)


def has_due(
    cur: Cursor,
    stages: Sequence[str],
    documents: Sequence[str] | None = None,
    *,
    alone: bool = False,
    slot: str | None = None,
) -> bool:
    """Whether any document is due that must run alone (`alone`), or any that need not. Does not count the backlog."""
    row = fetch_one(
        cur,
        f"select exists (select 1 from {_DUE_ITEMS} and i.must_run_alone = %(alone)s) as is_due",
        _due_parameters(stages, documents, slot) | {"alone": alone},
    )
    return bool(row["is_due"])


def is_any_free(cur: Cursor, stages: Sequence[str], slot: str) -> bool:
    """Whether any document is due in `stages` at `slot` that nothing blocks, such as an earlier stage that is not done."""
    row = fetch_one(
        cur,
        "select exists (select 1 from free_items i where i.stage = any(%(stages)s) "
        "and is_due(i.item, %(slot)s, (select epochs()))) as is_free",
        {"stages": list(stages), "slot": slot},
    )
    return bool(row["is_free"])


def is_any_left(cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None, slot: str) -> bool:
    """Whether any document is due in `stages` at `slot`, or deferred."""
    row = fetch_one(
        cur,
        f"select exists (select 1 from work_items i where i.state = 'deferred' and i.stage = any(%(stages)s) "
        f"and {_OF_DOCUMENTS}) or exists (select 1 from {_DUE_ITEMS}) as is_so",
        _due_parameters(stages, documents, slot),
    )
    return bool(row["is_so"])


_OF_DOCUMENTS = (
    "(%(documents)s::text[] is null "
    "or i.document_id = any(array(select document_id from documents where key = any(%(documents)s))))"
)
_DUE_ITEMS = (
    f"work_items i where {DUE_AT_SLOT} and i.stage = any(%(stages)s) and i.input_digest is not null and {_OF_DOCUMENTS}"
)


def _is_undelayed(item: str) -> str:
    """The condition that a work item is due whatever the time and the slot."""
    return (
        f"{item}.state in ('pending', 'deferred') and {item}.not_before is null and {item}.input_digest is not null "
        f"and {item}.stage = any(%(stages)s)"
    )


def _due_parameters(stages: Sequence[str], documents: Sequence[str] | None, slot: str | None) -> dict[str, Any]:
    return {"stages": list(stages), "documents": None if documents is None else list(documents), "slot": slot}


def count_waiting(cur: Cursor, stages: Sequence[str]) -> int:
    """How many documents have work in `stages` that is deferred because the slot is unavailable, and is not due yet."""
    row = fetch_one(
        cur,
        "select count(distinct i.document_id) as n from work_items i where i.state = 'deferred' "
        f"and i.stage = any(%s) and not ({DUE})",
        [list(stages)],
    )
    return int(row["n"])


def count_finished(cur: Cursor, document_ids: Sequence[int], stages: Sequence[str]) -> int:
    """How many of these documents are done in `stages`: no work is left, and none failed."""
    row = fetch_one(
        cur,
        "select count(*) as n from unnest(%s::bigint[]) as d (document_id) where not exists (select from work_items i "
        "where i.document_id = d.document_id and i.stage = any(%s) "
        "and i.state in ('pending', 'claimed', 'deferred', 'failed', 'quarantined'))",
        [list(document_ids), list(stages)],
    )
    return int(row["n"])


def count_in_back_off(cur: Cursor, stages: Sequence[str]) -> int:
    """How many documents have work in `stages` that waits for its next attempt, after a fault of the document."""
    row = fetch_one(
        cur,
        "select count(distinct document_id) as n from work_items where state = 'pending' and stage = any(%s) "
        "and not_before is not null and not_before > clock_timestamp()",
        [list(stages)],
    )
    return int(row["n"])


def count_claimed_elsewhere(cur: Cursor, stages: Sequence[str], worker_id: int) -> int:
    """How many documents have work in `stages` that other workers hold."""
    row = fetch_one(
        cur,
        "select count(distinct document_id) as n from work_items where state = 'claimed' and stage = any(%s) "
        "and worker_id <> %s",
        [list(stages), worker_id],
    )
    return int(row["n"])


def is_held_in_run(cur: Cursor, stages: Sequence[str], run_id: str) -> bool:
    """Whether a worker of this run holds work in `stages`."""
    cur.execute(
        "select 1 from work_items i join workers w using (worker_id) "
        "where i.state = 'claimed' and i.stage = any(%s) and w.run_id = %s limit 1",
        [list(stages), run_id],
    )
    return cur.rowcount > 0


def count_waiting_for_others(cur: Cursor, graph: StageGraph, stages: Sequence[str]) -> dict[str, int]:
    """By stage outside `stages`: how many documents wait for that one before they can start in `stages`.

    Those that failed in it are not counted: they wait for a person, and `status` shows them.
    """
    needed: dict[str, set[str]] = {}
    for stage in stages:
        for need in set(graph.with_needs([stage])) - set(stages):
            needed.setdefault(need, set()).add(stage)
    cur.execute(
        "select n.need, (select coalesce(sum(c.n), 0) from item_counts c where c.stage = n.need "
        "    and c.state in ('pending', 'claimed', 'deferred') and c.recipe is null)::bigint "
        # Only a document whose item was claimed before may have got items of the later stages.
        "  + (select count(*) from work_items w where w.stage = n.need and w.state in ('pending', 'claimed', 'deferred') "
        "    and w.recipe is not null and (select count(*) from work_items o where o.document_id = w.document_id "
        "      and o.stage = any(n.stages)) < cardinality(n.stages)) as n "
        "from jsonb_to_recordset(%s::jsonb) as n (need text, stages text[])",
        [json.dumps([{"need": need, "stages": sorted(followers)} for need, followers in needed.items()])],
    )
    counts = {row["need"]: int(row["n"]) for row in cur.fetchall() if row["n"]}
    return {name: counts[name] for name in graph.names if name in counts}


@dataclass(frozen=True)
class Unfinished:
    """A work item that a run still waits for. `seconds_to_due` is None if it is due, claimed, or has no due time."""

    document: str
    stage: str
    state: State
    reason: str | None
    attempts: int
    seconds_to_due: float | None


def unfinished(cur: Cursor, documents: Sequence[str], stages: Sequence[str]) -> list[Unfinished]:
    """The work items that these documents still lack for a result in each of `stages`; empty = all done.

    If an item does not exist yet, that of a stage it needs is reported instead.
    """
    cur.execute(
        "select d.key as document, wanted.stage as wanted, i.stage, i.state, i.reason, i.attempts, "
        f"  case when {DUE} then null else extract(epoch from i.not_before - clock_timestamp()) end as seconds_to_due "
        "from unnest(%(documents)s::text[]) as asked(key) join documents d on d.key = asked.key "
        "cross join unnest(%(stages)s::text[]) as wanted(stage) join stages s on s.name = wanted.stage "
        "left join work_items w on w.document_id = d.document_id and w.stage = wanted.stage "
        "left join work_items i on i.document_id = d.document_id "
        "  and i.stage = case when w.item_id is not null then s.name else coalesce(("
        "    select n.name from unnest(s.upstream || array(select jsonb_object_keys(s.condition))) as n (name) "
        "    where not exists (select from work_items o where o.document_id = d.document_id and o.stage = n.name "
        "      and o.state = 'done') limit 1), s.upstream) end "
        "where w.state is distinct from 'done'",
        {"documents": list(documents), "stages": list(stages)},
    )
    by_item = {
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
    return list(by_item.values())
