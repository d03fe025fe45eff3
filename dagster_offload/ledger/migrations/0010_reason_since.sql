-- Since when a slot's reason is what it is: shown beside it. `opened_at` stays the opening, which tells a wake from one
-- trial at once, and one opening may go through several reasons.
alter table slots add column reason_since timestamptz;
update slots set reason_since = opened_at;
