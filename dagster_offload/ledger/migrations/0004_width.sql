-- How wide a slot is used: N found by trying, and the documents its server can keep in its prompt cache.

alter table slots
    add column is_auto boolean not null default false, -- N is measured (slots/auto_concurrency.py); permits_from_settings is then 0
    add column width_memory jsonb,              -- what trying found so far in this stay of the slot; null = begin at 1
    add column width_since timestamptz,         -- calls begun since then tell of the present N
    add column width_found jsonb,               -- the last N it settled at, for people
    add column places integer,                  -- documents in flight, at most; null = as many as N
    add column places_from text check (places_from in ('person', 'server'));
