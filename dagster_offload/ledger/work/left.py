"""What is left of the work of a drain or a run: items that wait, that others hold, that are not done."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, fetch_one, see_one_moment
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.work.claims import DUE, count_due
from dagster_offload.stages.graph import StageGraph


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


@dataclass(frozen=True)
class WorkLeft:
    """Documents that are not done, each counted once in `deferred` or `left`.

    `due`: some stage is due, whatever another waits for. `deferred`: some stage waits because the slot is unavailable. `left`:
    all others with work that is due or waits for its next attempt; of those, the `in_back_off` only wait.
    """

    due: int
    deferred: int
    left: int
    in_back_off: int


def count_left(cur: Cursor, stages: Sequence[str]) -> WorkLeft:
    """What is left in `stages` now."""
    see_one_moment(cur)
    row = fetch_one(
        cur,
        f"select (select count(distinct i.document_id) from work_items i where {_IS_DEFERRED} "
        f"  and exists (select from work_items o where {_OF_THE_DOCUMENT} and {_IS_DUE})) as due_too, "
        "(select count(distinct i.document_id) from work_items i where i.state = 'pending' and i.stage = any(%(stages)s) "
        "  and i.not_before > clock_timestamp() "
        f"  and not exists (select from work_items o where {_OF_THE_DOCUMENT} and ({_IS_DUE} or o.state = 'deferred'))) "
        "as in_back_off",
        {"stages": list(stages)},
    )
    due = count_due(cur, stages)
    return WorkLeft(
        due=due,
        deferred=count_waiting(cur, stages),
        left=due - row["due_too"] + row["in_back_off"],
        in_back_off=row["in_back_off"],
    )


_IS_DEFERRED = f"i.state = 'deferred' and i.stage = any(%(stages)s) and not ({DUE})"
_OF_THE_DOCUMENT = "o.document_id = i.document_id and o.stage = any(%(stages)s)"
_IS_DUE = "o.state in ('pending', 'deferred') and o.input_digest is not null and is_due(o, null, (select epochs()))"


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
