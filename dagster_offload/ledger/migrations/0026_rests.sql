-- A slot may rest, and may be woken.

create table pauses (                         -- slots that a person paused; not part of `slots`, because a pause may come first
    slot text primary key,
    since timestamptz not null default clock_timestamp(),
    until timestamptz                         -- null = until a person resumes it
);

create table wakes (                          -- each try to wake a slot's machine
    wake_id bigint generated always as identity primary key,
    slot text not null,
    at timestamptz not null default clock_timestamp(),
    problem text                              -- null = the packet was sent, or the program ended well
);
create index wakes_slot on wakes (slot, at);

alter table waiting_runs                      -- a run that waits for the end of a rest
    add column paused_slot text,              -- it continues when this slot is not paused any more
    add column rest_until timestamptz;        -- it continues then
