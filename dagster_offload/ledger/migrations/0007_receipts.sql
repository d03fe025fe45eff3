-- Whether a transaction whose commit was never answered took place: the last step each thread of a process committed.

create table receipts (
    author uuid primary key,                  -- a thread of a process, named by itself
    step bigint not null,                     -- counted by the author
    left_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);                     -- every step updates its author's row in place
