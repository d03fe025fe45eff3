-- Document faults in a row are counted by slot and stage. If there are too many, the slot holds the stage: it takes no
-- document of it.

create table stage_faults (
    slot text not null references slots on delete cascade,
    stage text not null,
    code text not null,                       -- the fault in which all of them ended
    recipe text not null,                     -- of their calls; a changed recipe ends a hold
    items bigint[] not null,                  -- the work items, once for each attempt, with no success of the stage between
    began_at timestamptz not null default clock_timestamp(),
    held_since timestamptz,                   -- null = the slot takes the stage
    primary key (slot, stage)
);

alter table slots drop column fault_code, drop column fault_items;
drop function if exists note_success(text[]);

-- A slot that refused every document gets a trial. If the cause lasts, it holds the stages that it cannot answer.
update slots set breaker = 'open', retry_at = clock_timestamp(), reason_since = clock_timestamp(),
    reason = 'the ledger was upgraded: a trial is due'
where breaker = 'misconfigured' and starts_with(reason, 'every_document_refused');

-- The word is explained nowhere any more.
update work_items set reason = 'the ledger was upgraded: this is tried again'
where state = 'pending' and starts_with(reason, 'every_document_refused');

alter table waiting_runs
    add column held_stage text;               -- the run continues when `slot` takes this stage again
