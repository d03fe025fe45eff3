-- Several slots: a slot that already failed an item alone does not take it again while the item waits.
alter table work_items
    add column failed_alone jsonb not null default '{}';  -- by slot: the epoch that must be over before it takes the item again
