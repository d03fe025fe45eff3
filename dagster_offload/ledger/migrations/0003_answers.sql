-- Answers that were no records, for the person who wants to know why; and what a slot's server was found to understand.

create table refused_answers (
    refused_answer_id bigint generated always as identity primary key,
    item_id bigint not null references work_items on delete cascade,
    code text not null,                       -- why it was refused, in one word
    answer text not null,                     -- as the model wrote it, cut to a readable length
    at timestamptz not null default clock_timestamp()
);
create index refused_answers_item on refused_answers (item_id);

alter table slots add column dialects jsonb not null default '{}';  -- see dagster_offload/slot/dialects.py
alter table slots add column dialects_at timestamptz;               -- when they were found out
