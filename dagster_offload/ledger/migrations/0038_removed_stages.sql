-- When a stage is removed from the pipeline, records become complete or lose its answer, and no document changes.

alter table sinks add column removed_stages text[];
comment on column sinks.removed_stages is
    'with filled_to: it looks only at documents whose records the removal of these stages changes; null = at all documents';

alter table sinks add column wants_after timestamptz;
comment on column sinks.wants_after is 'it wants no records that were complete then; null = it wants all';

alter table sinks add column changes_after bigint not null default 0;
comment on column sinks.changes_after is
    'changed_records up to this one are not for it: it was added later, and wants no records that existed then';
