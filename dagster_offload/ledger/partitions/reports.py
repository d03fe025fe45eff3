"""Queues what a run did not do itself, under the run: for each document, or for each partition of several documents."""

from collections.abc import Sequence

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning


def report_under_run(cur: Cursor, run_id: str, documents: Sequence[str], stages: Sequence[str]) -> int:
    """Queue what is done of these documents (keys) under a run that did not do all of it; returns how many rows.

    Dagster counts only events of runs tagged with a backfill. Without this, a backfill ends COMPLETED_FAILED if a drain
    completed its documents while its run waited. What is queued or reported under the run is not queued again; of a
    partition of several documents, what was last reported under it. A partition that is not complete is not reported, so
    nothing is queued for it.
    """
    if not assigning.in_force(cur).rule.is_grouped:
        return outbox.report_under_run(cur, run_id, documents, stages)
    # One result of each partition: the reporter looks at the whole partition.
    cur.execute(
        "with newest as materialized ("
        "  select distinct on (d.partition, i.stage) d.partition, i.stage, i.result_id, i.document_id, i.attempts, i.deferrals "
        "  from documents d join work_items i using (document_id) "
        "  where d.key = any(%(documents)s) and d.is_present and d.partition is not null and i.stage = any(%(stages)s) "
        "  and i.state = 'done' and not exists (select from partition_reports r "
        "    where r.partition = d.partition and r.stage = i.stage and r.run_id = %(run)s) "
        "  order by d.partition, i.stage, d.document_id desc) "
        "insert into outbox (result_id, document_id, stage, run_id, attempts, deferrals) "
        "select result_id, document_id, stage, %(run)s, attempts, deferrals from newest n "
        "where not exists (select from documents d "
        "  left join work_items i on i.document_id = d.document_id and i.stage = n.stage "
        "  where d.partition = n.partition and d.is_present and i.state is distinct from 'done') "
        "order by document_id, stage",
        {"run": run_id, "documents": list(documents), "stages": list(stages)},
    )
    return cur.rowcount
