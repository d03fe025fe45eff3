-- What grows for years can be removed: old history, and on request the results of documents that are gone.

alter table documents add column gone_at timestamptz;  -- since when the file is gone; null = it is present
update documents d set gone_at = coalesce((select max(i.changed_at) from work_items i where i.document_id = d.document_id),
    clock_timestamp()) where not d.is_present;
create index documents_gone on documents (gone_at) where gone_at is not null;

-- Old workers are removed while done work items still name them, and reported events when their result or document is
-- removed. A check of these references would read the whole table for each removed row.
alter table work_items drop constraint work_items_worker_id_fkey;
alter table outbox drop constraint outbox_result_id_fkey, drop constraint outbox_document_id_fkey;
-- For the check when a result is removed.
create index work_items_result on work_items (result_id) where result_id is not null;

create table upkeep (                         -- when each kind of upkeep was last complete
    name text primary key,
    done_at timestamptz not null default clock_timestamp()
);

-- By default a fifth of a table must change before it is vacuumed: at a million work items, 200,000 dead rows, which every
-- claim would read past.
alter table work_items set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table outbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table documents set (autovacuum_vacuum_scale_factor = 0.05);
