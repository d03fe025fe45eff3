"""Runs that wait: what each one waits for, and whether that is available now.

A row is written when a step requests a retry, and removed when a step ends without one. So a run whose process died has a
row exactly if it was waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState


@dataclass(frozen=True)
class WaitingRun:
    """What a run waits for, and its state now. `breaker` is None if the run does not wait for a slot."""

    reason: str
    slot: str | None
    breaker: BreakerState | None
    is_done: bool  # every stage of every document has its result


def put(
    cur: Cursor, run_id: str, documents: Sequence[str], stages: Sequence[str], slot: str | None, reason: str
) -> None:
    """Store that the run waits for these stages of these documents (keys). Replaces the run's earlier row."""
    cur.execute(
        "insert into waiting_runs (run_id, documents, stages, slot, reason) "
        "select %(run)s, coalesce(array_agg(document_id), '{}'), %(stages)s, %(slot)s, %(reason)s "
        "from documents where key = any(%(documents)s) "
        "on conflict (run_id) do update set documents = excluded.documents, stages = excluded.stages, "
        "  slot = excluded.slot, reason = excluded.reason, since = excluded.since",
        {"run": run_id, "documents": list(documents), "stages": list(stages), "slot": slot, "reason": reason},
    )


def find(cur: Cursor, run_id: str) -> WaitingRun | None:
    """What the run waits for, and its state now; None if the run does not wait."""
    row = cur.execute(
        "select w.reason, w.slot, s.breaker, not exists ("
        "  select 1 from unnest(w.documents) as d(document_id) cross join unnest(w.stages) as t(stage) "
        "  left join work_items i on i.document_id = d.document_id and i.stage = t.stage "
        "  where i.state is distinct from 'done') as is_done "
        "from waiting_runs w left join slots s on s.name = w.slot where w.run_id = %s",
        [run_id],
    ).fetchone()
    if row is None:
        return None
    breaker = None if row["breaker"] is None else BreakerState(row["breaker"])
    return WaitingRun(row["reason"], row["slot"], breaker, row["is_done"])


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
