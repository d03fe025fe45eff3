-- Which ledger this is. Its backups and the copies that `move` makes have the same identifier.
create table identity (
    ledger_id uuid not null default gen_random_uuid(),
    moved_to text,                            -- where `move` copied it, without a password; null = this is the one to use
    moved_at timestamptz,
    is_only_row boolean primary key default true check (is_only_row)
);
insert into identity default values;

create table backups (                        -- the last scheduled backup of each folder
    folder text primary key,                  -- host:path
    tried_at timestamptz not null,
    succeeded_at timestamptz,                 -- of the last one that succeeded
    file text,
    bytes bigint,
    error text                                -- why the last try failed; null = it succeeded
);
