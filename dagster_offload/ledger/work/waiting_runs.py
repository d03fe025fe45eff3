"""Runs that wait: what each one waits for, and whether that is available now.

A row is written when a step requests a retry, and removed when a step ends without one. So a run whose process died has a
row exactly if it was waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.slot.rest import Rest, RestKind


@dataclass(frozen=True)
class WaitingRun:
    """What a run waits for, and its state now. `breaker` is None if the run does not wait for a slot."""

    reason: str
    slot: str | None
    breaker: BreakerState | None
    is_done: bool  # every stage of every document has its result
    is_rest_over: bool = False  # it waits for the end of a slot's rest, which has come
    is_held: bool = False  # it waits for a stage that `slot` holds


def put(
    cur: Cursor,
    run_id: str,
    documents: Sequence[str],
    stages: Sequence[str],
    slot: str | None,
    reason: str,
    rest: Rest | None = None,
    held_stage: str | None = None,
) -> None:
    """Store that the run waits for these stages of these documents (keys). Replaces the run's earlier row.

    It continues when the breaker of `slot` closes, when `rest` ends, or when `slot` no longer holds `held_stage`.
    """
    cur.execute(
        "insert into waiting_runs (run_id, documents, stages, slot, reason, paused_slot, rest_until, held_stage) "
        "select %(run)s, coalesce(array_agg(document_id), '{}'), %(stages)s, %(slot)s, %(reason)s, %(paused_slot)s, "
        "  %(rest_until)s, %(held_stage)s "
        "from documents where key = any(%(documents)s) "
        "on conflict (run_id) do update set documents = excluded.documents, stages = excluded.stages, "
        "  slot = excluded.slot, reason = excluded.reason, since = excluded.since, paused_slot = excluded.paused_slot, "
        "  rest_until = excluded.rest_until, held_stage = excluded.held_stage",
        {
            "run": run_id,
            "documents": list(documents),
            "stages": list(stages),
            "slot": slot,
            "reason": reason,
            "paused_slot": rest.slot if rest is not None and rest.kind is RestKind.PAUSED else None,
            "rest_until": None if rest is None else rest.until,
            "held_stage": held_stage,
        },
    )


def find(cur: Cursor, run_id: str) -> WaitingRun | None:
    """What the run waits for, and its state now; None if the run does not wait."""
    row = cur.execute(
        "select w.reason, w.slot, s.breaker, not exists ("
        "  select 1 from unnest(w.documents) as d(document_id) cross join unnest(w.stages) as t(stage) "
        "  left join work_items i on i.document_id = d.document_id and i.stage = t.stage "
        "  where i.state is distinct from 'done') as is_done, "
        "coalesce(w.rest_until <= clock_timestamp(), false) or (w.paused_slot is not null and not exists ("
        "  select from pauses p where p.slot = w.paused_slot and coalesce(p.until > clock_timestamp(), true))) as is_rest_over, "
        "exists (select from stage_faults f where f.slot = w.slot and f.stage = w.held_stage and f.held_since is not null) "
        "  as is_held "
        "from waiting_runs w left join slots s on s.name = w.slot where w.run_id = %s",
        [run_id],
    ).fetchone()
    if row is None:
        return None
    breaker = None if row["breaker"] is None else BreakerState(row["breaker"])
    return WaitingRun(row["reason"], row["slot"], breaker, row["is_done"], row["is_rest_over"], row["is_held"])


def documents_of(cur: Cursor, run_id: str) -> tuple[list[str], list[str]]:
    """The documents (keys) and stages that a run waits for; empty if it does not wait."""
    row = cur.execute(
        "select array(select key from documents d where d.document_id = any(w.documents) order by d.document_id) "
        "as keys, w.stages from waiting_runs w where w.run_id = %s",
        [run_id],
    ).fetchone()
    return ([], []) if row is None else (row["keys"], row["stages"])


def remove(cur: Cursor, run_id: str) -> None:
    """Remove the run's row: it no longer waits."""
    cur.execute("delete from waiting_runs where run_id = %s", [run_id])


def forget_others(cur: Cursor, run_ids: Sequence[str]) -> None:
    """Remove the rows of all other runs: they ended, but no step of theirs removed the row.

    Rows of the last hour stay: another host may have begun a wait since the caller listed the runs.
    """
    cur.execute(
        "delete from waiting_runs where run_id <> all(%s) and since < clock_timestamp() - interval '1 hour'",
        [list(run_ids)],
    )
