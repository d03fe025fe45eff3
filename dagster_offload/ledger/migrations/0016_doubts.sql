-- Few results are doubtful, and few items wait for their next attempt: `status` finds them without reading the others.
create index results_doubtful on results (result_id) where value ? 'doubtful' and superseded_at is null;
create index work_items_backing_off on work_items (stage, not_before) where state = 'pending' and not_before is not null;
