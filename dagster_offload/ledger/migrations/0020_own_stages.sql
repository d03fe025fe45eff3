-- Stages of a person's own: they may depend on the answers of other stages, and they are added to documents that exist.

alter table stages
    -- by stage and field, the values of which an answer must have one: {"classify": {"category": ["invoice"]}}; null = none
    add column condition jsonb,
    -- documents up to this id have an item; null = all of them
    add column filled_to bigint;

alter table results drop constraint results_outcome_check;
alter table results add constraint results_outcome_check
    check (outcome in ('ok', 'empty', 'no_text', 'needs_ocr', 'not_applicable')) not valid;

create table applied_views (                  -- the fields for which ledger/reports/views.py made its views; one row
    digest text not null,
    applied_at timestamptz not null default clock_timestamp()
);
