-- Counts that stay exact while work items change, so that `status` reads a few hundred rows and not millions of items.
-- The triggers in ledger/sql/counts.sql maintain them.

create table item_counts (                    -- the number of work items is the sum of `n`
    change_id bigint generated always as identity primary key,
    stage text not null,
    state text not null,
    recipe text,
    outcome text,
    n bigint not null                         -- of one change, or of many that were added up
);
alter table item_counts set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

lock table work_items in share row exclusive mode;  -- until the triggers exist
insert into item_counts (stage, state, recipe, outcome, n)
select stage, state, recipe, outcome, count(*) from work_items group by stage, state, recipe, outcome;

-- The documents present in the order of their keys: Dagster's partitions, and a page of the records.
create index documents_in_order on documents (key collate "C") include (document_id) where is_present;

-- How many documents are due is counted at the beginning and at the end of a drain, from this index alone.
create index work_items_due on work_items (document_id, stage)
    where state in ('pending', 'deferred') and not_before is null and input_digest is not null;
-- The others are few. This index replaces one for pending items alone.
create index work_items_delayed on work_items (stage, not_before)
    where state in ('pending', 'deferred') and not_before is not null;
drop index work_items_backing_off;
-- The first items that need a person. Without it, all items may be read up to the first of those.
create index work_items_problems on work_items (item_id) where state in ('failed', 'quarantined');

-- The newest calls of a slot that answers rarely, beside another one that answers all the time.
create index calls_slot on calls (slot, ended_at);
-- The calls of a document: for `explain`, and when it is quarantined.
create index calls_document on calls (document_id);

-- Events that wait for Dagster are counted from this index alone: a copied ledger has millions.
drop index outbox_pending;
create index outbox_pending on outbox (event_id) include (stage) where told_at is null;
