-- Calls that are refused together show once that they are too many, whichever workers sent them.

alter table slots add column busy_counted_at timestamptz;
comment on column slots.busy_counted_at is 'the last 429 that was counted in busy_in_a_row; null = of none since step 41';
