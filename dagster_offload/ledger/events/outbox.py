"""The outbox: results, and work items that were deferred, failed or quarantined, that are not yet reported to Dagster.

A result is stored before its event. Events are reported at least once, oldest first, by one flusher at a time. Each carries
the id of its result, or its own, so that a repeated event can be recognized. `sending_since` is committed before an event is
stored. If it is set after a crash, the event is in doubt, and the flusher queries Dagster first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one
from dagster_offload.ledger.core.locks import only_one
from dagster_offload.ledger.core.rows import PendingEvent, PendingObservation, State
from dagster_offload.ledger.core.transitions import OBSERVED
from dagster_offload.ledger.partitions import events
from dagster_offload.ledger.work.corrections import HAS_CORRECTIONS

PREVIEW_CHARACTERS = 500
# Notified after a batch is stored in Dagster: waiting runs then check whether their documents are done. It is a separate
# channel because workers do not need it.
RECORDED_CHANNEL_SUFFIX = "_recorded"


@contextmanager
def flushing(ledger: Ledger) -> Iterator[bool]:
    """Become the only flusher; yields False if another one runs."""
    with ledger.session() as connection, only_one(connection, "outbox", ledger.schema) as is_only_flusher:
        yield is_only_flusher


@contextmanager
def holding_back(ledger: Ledger) -> Iterator[None]:
    """Wait until no flusher runs, and let none begin during the block."""
    connection = ledger.retry_until_available(ledger.connect)
    try:
        connection.execute("select pg_advisory_lock(hashtext('outbox'), hashtext(%s))", [ledger.schema])
        yield
    finally:
        connection.close()


def pending_events(cur: Cursor, stages: Sequence[str], limit: int = 100) -> list[PendingEvent | PendingObservation]:
    """The oldest events of these stages that are not yet reported, marked as being sent.

    The caller must hold the flusher's lock.
    """
    cur.execute(
        "with picked as (select event_id, result_id, document_id, stage, sending_since from outbox "
        "  where told_at is null and stage = any(%(stages)s) order by event_id limit %(n)s) "
        "update outbox o set sending_since = clock_timestamp() from picked join documents d using (document_id) "
        "left join results r using (result_id) "
        "left join work_items i on i.document_id = picked.document_id and i.stage = picked.stage "
        "where o.event_id = picked.event_id and (r.result_id is not null or o.state is not null) "
        "returning o.event_id, o.result_id, d.key as document, o.stage, o.run_id, "
        "  picked.sending_since is not null as is_in_doubt, r.outcome, r.output_digest, r.recipe, "
        "  left(r.text, %(preview)s) as text_preview, length(r.text) as text_length, r.slot, r.served_model, "
        f"  case when {HAS_CORRECTIONS} and r.outcome <> 'not_applicable' "
        "    then corrected(r.value, d.digest, o.stage) else r.value end as value, "
        f"  case when {HAS_CORRECTIONS} and r.outcome <> 'not_applicable' "
        "    then corrected_fields(d.document_id, o.stage) end as corrected, "
        "  r.model_evidence, r.tokens_in, r.tokens_out, r.tokens_cached, r.seconds, o.attempts, o.deferrals, "
        "  o.reused_from, r.created_at, o.state, o.reason, o.created_at as at, "
        "  case when i.state = o.state then i.not_before end as next_try",
        {"n": limit, "stages": list(stages), "preview": PREVIEW_CHARACTERS},
    )
    return sorted((_event(row) for row in cur.fetchall()), key=lambda event: event.event_id)


def _event(row: dict[str, Any]) -> PendingEvent | PendingObservation:
    if row["state"] is None:
        return PendingEvent(**{name: row[name] for name in _EVENT_FIELDS})
    values = {name: row[name] for name in _OBSERVATION_FIELDS}
    return PendingObservation(**{**values, "state": State(row["state"])})


_EVENT_FIELDS, _OBSERVATION_FIELDS = (
    tuple(field.name for field in fields(each)) for each in (PendingEvent, PendingObservation)
)


def mark_reported(cur: Cursor, event_ids: Sequence[int]) -> None:
    """Mark these events as reported to Dagster, and notify waiting runs."""
    cur.execute("update outbox set told_at = clock_timestamp() where event_id = any(%s)", [list(event_ids)])
    cur.execute("select pg_notify('offload_' || current_schema() || %s, '')", [RECORDED_CHANNEL_SUFFIX])


def report_under_run(cur: Cursor, run_id: str, documents: Sequence[str], stages: Sequence[str]) -> int:
    """Queue the done results of these documents under a run that did not make them; returns how many.

    Dagster counts only events of runs tagged with a backfill. Without this, a backfill ends COMPLETED_FAILED if a drain
    completed its documents while its run waited. Results already queued under the run are not queued again.
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


# Queues what is done of the documents present, under no run. Conditions on the document `d` and the work item `i` may follow.
QUEUE_DONE = (
    "insert into outbox (result_id, document_id, stage, reused_from, attempts, deferrals) "
    "select i.result_id, i.document_id, i.stage, nullif(r.first_document, d.key), i.attempts, i.deferrals "
    "from documents d join work_items i using (document_id) join results r using (result_id) "
    "where i.state = 'done' and d.is_present"
)


def report_again(cur: Cursor) -> int:
    """Queue every done result, and every work item that is deferred, failed or quarantined, for a Dagster that knows none of
    them, under no run; returns how many.

    Events that were not reported yet lose their run, which that Dagster does not know either.
    """
    cur.execute("delete from outbox where told_at is null")
    cur.execute("delete from told")
    cur.execute("delete from partition_reports")
    cur.execute("delete from dagster_partitions")
    cur.execute(f"{QUEUE_DONE} order by i.item_id")
    results = cur.rowcount
    cur.execute(
        "insert into outbox (document_id, stage, state, reason, attempts, deferrals) "
        "select i.document_id, i.stage, i.state, i.reason, i.attempts, i.deferrals "
        "from documents d join work_items i using (document_id) "
        "where i.state = any(%s) and d.is_present order by i.item_id",
        [list(OBSERVED)],
    )
    return results + cur.rowcount


def withdraw_observations(cur: Cursor, item_ids: Sequence[int]) -> None:
    """Remove observations of these work items that are not yet reported, because their fault was not the document's."""
    cur.execute(
        "delete from outbox o using work_items i where i.item_id = any(%s) and o.document_id = i.document_id "
        "and o.stage = i.stage and o.state is not null and o.told_at is null and o.sending_since is null",
        [list(item_ids)],
    )


def is_any_pending(cur: Cursor) -> bool:
    """Whether an event is not yet reported to Dagster. Does not count them."""
    row = fetch_one(cur, f"select exists (select from outbox where {_IS_PENDING}) as is_so")
    return bool(row["is_so"]) or events.is_any_change(cur)


def count_pending(cur: Cursor) -> int:
    """How many events are not yet reported to Dagster. Those of a stage that was removed wait until it is back."""
    row = fetch_one(cur, f"select count(*) as n from outbox where {_IS_PENDING}")
    return int(row["n"]) + events.count_changes(cur)


_IS_PENDING = "told_at is null and stage = any(array(select name from stages))"
