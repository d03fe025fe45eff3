"""The log of every change of state, for `explain`. Changes that people should see in Dagster go to the outbox as well."""

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import State

# Dagster shows these on the document's partition. `done` is a materialization; the other states pass by themselves.
OBSERVED = (State.DEFERRED, State.FAILED, State.QUARANTINED)


def record_transition(
    cur: Cursor,
    document_id: int,
    stage: str,
    from_state: str | None,
    to_state: str,
    worker_id: int | None,
    reason: str | None,
) -> None:
    """Record one change of state with its time, worker and reason, after the work item was changed."""
    if to_state in OBSERVED:
        _queue_observation(cur, document_id, stage, to_state, worker_id, reason)
    cur.execute(
        "insert into transitions (document_id, stage, from_state, to_state, worker_id, reason) "
        "values (%s, %s, %s, %s, %s, %s)",
        [document_id, stage, from_state, to_state, worker_id, reason],
    )


def _queue_observation(
    cur: Cursor, document_id: int, stage: str, state: str, worker_id: int | None, reason: str | None
) -> None:
    """Queue the change for Dagster, unless it repeats the state and reason before the claim: a slot that stays away defers
    a document again and again."""
    cur.execute(
        "insert into outbox (document_id, stage, run_id, state, reason, attempts, deferrals) "
        "select i.document_id, i.stage, (select run_id from workers where worker_id = %(worker)s), %(state)s, %(reason)s, "
        "  i.attempts, i.deferrals from work_items i "
        "where i.document_id = %(document)s and i.stage = %(stage)s and not exists (select from ("
        "  select t.to_state, t.reason from transitions t where t.document_id = i.document_id and t.stage = i.stage "
        "  and t.to_state <> 'claimed' order by t.transition_id desc limit 1) before "
        "  where before.to_state = %(state)s and before.reason is not distinct from %(reason)s)",
        {"document": document_id, "stage": stage, "state": state, "worker": worker_id, "reason": reason},
    )
