-- The outbox also reports work items that are deferred, failed or quarantined. Such a row has a state and no result.
alter table outbox alter column result_id drop not null,
    add column state text,
    add column reason text,
    add constraint outbox_result_or_state check ((result_id is null) <> (state is null)) not valid;

create table told (                           -- what Dagster was told last, so that it is told again only after a change
    subject text primary key,
    value text not null,                      -- compared, not read
    told_at timestamptz not null default clock_timestamp()
);

create table availability (                   -- since when a slot is available or not, as far as work was due
    availability_id bigint generated always as identity primary key,
    slot text not null,
    is_available boolean not null,
    since timestamptz not null default clock_timestamp()
);
create index availability_slot on availability (slot, since);
