-- When a stage is removed from the pipeline, records become complete or lose its answer, and no document changes.

alter table sinks add column removed_stages text[];
comment on column sinks.removed_stages is
    'with filled_to: it looks only at documents whose records the removal of these stages changes; null = at all documents';
