"""The outbox: materializations that Dagster has not been told yet. Result first, event second.

Events are told at least once, oldest first, one flusher at a time; each carries its result's id, so that a repeat can
be seen. `sending_since` is committed before an event is stored: whoever finds it after a crash asks Dagster first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one
from dagster_offload.ledger.core.rows import PendingEvent

PREVIEW_CHARACTERS = 500
# Notified after a batch was stored in Dagster: runs that wait for documents look whether theirs are done. A channel of
# its own, since it is of no interest to workers.
RECORDED_CHANNEL_SUFFIX = "_recorded"


@contextmanager
def flushing(ledger: Ledger) -> Iterator[bool]:
    """Be the one flusher; False where another is at work. The lock goes with the process."""
    connection = ledger.patiently(ledger.connect)
    try:
        row = connection.execute(
            "select pg_try_advisory_lock(hashtext('outbox'), hashtext(%s)) as got", [ledger.schema]
        ).fetchone()
        yield bool(row and row["got"])
    finally:
        connection.close()


def pending_events(cur: Cursor, limit: int = 100) -> list[PendingEvent]:
    """The oldest events not yet told, marked as being sent. Call with the flusher's lock held."""
    cur.execute(
        "with picked as (select event_id, sending_since from outbox where told_at is null order by event_id limit %(n)s) "
        "update outbox o set sending_since = clock_timestamp() from picked, results r, documents d "
        "where o.event_id = picked.event_id and r.result_id = o.result_id and d.document_id = o.document_id "
        "returning o.event_id, o.result_id, d.key as document, o.stage, o.run_id, "
        "  picked.sending_since is not null as is_in_doubt, r.outcome, r.output_digest, r.recipe, "
        "  left(r.text, %(preview)s) as text_preview, length(r.text) as text_length, r.value, r.slot, r.served_model, "
        "  r.model_evidence, r.tokens_in, r.tokens_out, r.tokens_cached, r.seconds, o.attempts, o.deferrals, "
        "  o.reused_from, r.created_at",
        {"n": limit, "preview": PREVIEW_CHARACTERS},
    )
    return sorted((PendingEvent(**row) for row in cur.fetchall()), key=lambda event: event.event_id)


def mark_reported(cur: Cursor, event_ids: Sequence[int]) -> None:
    cur.execute("update outbox set told_at = clock_timestamp() where event_id = any(%s)", [list(event_ids)])
    cur.execute("select pg_notify('offload_' || current_schema() || %s, '')", [RECORDED_CHANNEL_SUFFIX])


def report_under_run(cur: Cursor, run_id: str, documents: Sequence[str], stages: Sequence[str]) -> int:
    """Queue the done results of these documents under a run that did not make them; returns how many.

    Dagster counts only events of runs tagged with a backfill: without this, a backfill whose documents a drain did
    while its run waited ends COMPLETED_FAILED. What already stands under the run is not queued again.
    """
    cur.execute(
        "insert into outbox (result_id, document_id, stage, run_id, reused_from, attempts, deferrals) "
        "select i.result_id, i.document_id, i.stage, %(run)s, nullif(r.first_document, d.key), i.attempts, i.deferrals "
        "from documents d join work_items i using (document_id) join results r using (result_id) "
        "where d.key = any(%(documents)s) and i.stage = any(%(stages)s) and i.state = 'done' and not exists ("
        "  select 1 from outbox o where o.run_id = %(run)s and o.result_id = i.result_id "
        "  and o.document_id = i.document_id) order by i.item_id",
        {"run": run_id, "documents": list(documents), "stages": list(stages)},
    )
    return cur.rowcount


def count_pending(cur: Cursor) -> int:
    row = fetch_one(cur, "select count(*) as n from outbox where told_at is null")
    return int(row["n"])
