"""The log of every change of state, for `explain`."""

from dagster_offload.ledger.core.database import Cursor


def record_transition(
    cur: Cursor,
    document_id: int,
    stage: str,
    from_state: str | None,
    to_state: str,
    worker_id: int | None,
    reason: str | None,
) -> None:
    """Record one change of state with its time, worker and reason. `explain` prints them."""
    cur.execute(
        "insert into transitions (document_id, stage, from_state, to_state, worker_id, reason) "
        "values (%s, %s, %s, %s, %s, %s)",
        [document_id, stage, from_state, to_state, worker_id, reason],
    )
