"""Claims: a worker's hold on one document's due work items, with a fencing token. Also counts which items are due."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import Claim, ClaimedItem, State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.text.counts import counted, shown_count

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
    """Keys of the documents that can run alone now and whose calls failed together with a slot least often.

    They run first. Otherwise one document that crashes its server would block the others that must run alone. One that waits
    for another stage, or for a stage that the slot holds, blocks none either.
    """
    cur.execute(
        "select key from (select d.key, rank() over (order by (select count(distinct (c.slot, c.epoch)) "
        "  from cuts c join work_items w using (item_id) where w.document_id = d.document_id)) as place "
        f"from documents d where d.document_id in (select i.document_id from {_FREE_ITEMS} and i.must_run_alone "
        f"  and {_OF_DOCUMENTS})) ranked where place = 1",
        _due_parameters(stages, documents, slot),
    )
    return [row["key"] for row in cur.fetchall()]


def release(cur: Cursor, worker_id: int, claim: Claim, reason: str) -> None:
    """Return the items of a claim that are still held. They become pending, and no attempt is counted."""
    _give_back(cur, worker_id, claim, reason, None)


def postpone(cur: Cursor, worker_id: int, claim: Claim, reason: str, seconds: float) -> None:
    """Like `release`, and the items cannot be claimed again for `seconds`."""
    _give_back(cur, worker_id, claim, reason, seconds)


def _give_back(cur: Cursor, worker_id: int, claim: Claim, reason: str, pause_seconds: float | None) -> None:
    cur.execute(
        "update work_items set state = 'pending', reason = %s, changed_at = clock_timestamp(), "
        "  not_before = coalesce(clock_timestamp() + make_interval(secs => %s), not_before) "
        "where document_id = %s and state = 'claimed' and token = %s returning stage",
        [reason, pause_seconds, claim.document_id, claim.token],
    )
    for row in cur.fetchall():
        record_transition(cur, claim.document_id, row["stage"], State.CLAIMED, State.PENDING, worker_id, reason)


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
        due = counted(self.due, "document", MOST_COUNTED)
        return f"{due} due, {shown_count(self.waiting, MOST_COUNTED)} deferred"


MOST_COUNTED = 1_000


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
    cur: Cursor, stages: Sequence[str], documents: Sequence[str] | None, *, alone: bool, slot: str | None
) -> bool:
    """Whether any document is due that must run alone (`alone`), or any that need not. Does not count the backlog."""
    row = fetch_one(
        cur,
        f"select exists (select 1 from {_DUE_ITEMS} and i.must_run_alone = %(alone)s) as is_due",
        _due_parameters(stages, documents, slot) | {"alone": alone},
    )
    return bool(row["is_due"])


def is_any_before(cur: Cursor, stages: Sequence[str], slot: str, priority: int) -> bool:
    """Whether a document of a higher priority is due in `stages` at `slot`, need not run alone, and is not blocked.

    Reads only the first due items of each stage, so the cost is bounded. Those that all wait for another stage of their
    documents are found by that stage.
    """
    row = fetch_one(
        cur,
        "select exists (select 1 from unnest(not_held(%(slot)s, %(stages)s)) as s (stage) cross join lateral ("
        "  select i.item_id from work_items i where i.stage = s.stage and i.must_run_alone = false "
        f"    and i.priority > %(priority)s and {DUE_AT_SLOT} and i.input_digest is not null "
        "  order by i.priority desc, i.document_id limit %(most)s) next join free_items using (item_id)) as is_so",
        {"stages": list(stages), "slot": slot, "priority": priority, "most": MOST_LOOKED_AT},
    )
    return bool(row["is_so"])


MOST_LOOKED_AT = 100  # of those that are due, few are blocked


def is_any_free(cur: Cursor, stages: Sequence[str], slot: str) -> bool:
    """Whether any document is due in `stages` at `slot` that nothing blocks, such as an earlier stage that is not done.

    A stage that the slot holds is left out.
    """
    row = fetch_one(
        cur,
        f"select exists (select 1 from {_FREE_ITEMS}) as is_free",
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

# What `take` can take: the stages that the slot holds are looked up once, not for each item.
_FREE_ITEMS = (
    "free_items i where i.stage = any((select not_held(%(slot)s, %(stages)s))::text[]) "
    "and is_due(i.item, %(slot)s, (select epochs()))"
)


def _is_undelayed(item: str) -> str:
    """The condition that a work item is due whatever the time and the slot."""
    return (
        f"{item}.state in ('pending', 'deferred') and {item}.not_before is null and {item}.input_digest is not null "
        f"and {item}.stage = any(%(stages)s)"
    )


def _due_parameters(stages: Sequence[str], documents: Sequence[str] | None, slot: str | None) -> dict[str, Any]:
    return {"stages": list(stages), "documents": None if documents is None else list(documents), "slot": slot}
