-- What commands and `up` need to show the same cause in the same words each time, and copies as work that was done.

alter table slots add column answered_url text;
comment on column slots.answered_url is 'the URL at which it answered last, without user and password; null = it never did';

alter table sinks add column is_misconfigured boolean not null default false;
comment on column sinks.is_misconfigured is 'it waits for `reason`, which a changed setting would end';

alter table notifications add column is_misconfigured boolean not null default false;
comment on column notifications.is_misconfigured is 'it waits for `reason`, which a changed setting would end';

drop function if exists note_success(text[], text[]);  -- it has another argument now

drop function if exists complete_by_reuse(bigint[], jsonb, text);  -- it has another argument now
