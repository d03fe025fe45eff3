-- The stages become data. The functions of earlier steps move to ledger/sql, which is applied anew whenever it changes.

create table stages (                         -- what a document goes through; see dagster_offload/stages/graph.py
    name text primary key,
    upstream text references stages,          -- whose output it reads; null = it reads the file
    position integer not null unique          -- declared order
);
create unique index stages_one_reads_files on stages ((true)) where upstream is null;

create table applied_sql (                    -- the state of ledger/sql this ledger has; one row
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);

drop function take_documents(integer, text[], jsonb, bigint[], integer, boolean, text);
drop function may_be_claimed(work_items, text[], boolean, text, jsonb);
drop function finish_group(jsonb, text[], integer, text);

-- The next item of each stage, in the order of its turn. It replaces an index in which the items of all stages stood in
-- each other's way, and one for extractions alone.
create index work_items_turn on work_items (stage, must_run_alone, priority desc, document_id)
    where state in ('pending', 'deferred');
drop index work_items_waiting;
drop index work_items_to_extract;
