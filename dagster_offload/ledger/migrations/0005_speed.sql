-- What stays fast in a ledger of a million items.

-- All that `status` counts stands in one index: it reads no work item.
drop index work_items_state;
create index work_items_counted on work_items (stage, state, recipe, outcome);
