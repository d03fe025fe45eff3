-- Counts of work items. Each statement that changes items adds rows to `item_counts` with its differences. Rows are not
-- updated, so that transactions do not wait for each other.

create or replace function count_items() returns trigger language plpgsql as $$
declare
    added bigint;
begin
    if tg_op = 'TRUNCATE' then
        delete from item_counts;
        return null;
    elsif tg_op = 'INSERT' then
        insert into item_counts (stage, state, recipe, outcome, n)
        select i.stage, i.state, i.recipe, i.outcome, count(*) from after_change i
        group by i.stage, i.state, i.recipe, i.outcome;
    elsif tg_op = 'DELETE' then
        insert into item_counts (stage, state, recipe, outcome, n)
        select i.stage, i.state, i.recipe, i.outcome, -count(*) from before_change i
        group by i.stage, i.state, i.recipe, i.outcome;
    else
        insert into item_counts (stage, state, recipe, outcome, n)
        select i.stage, i.state, i.recipe, i.outcome, sum(i.n) from (
            select stage, state, recipe, outcome, -1 as n from before_change
            union all select stage, state, recipe, outcome, 1 from after_change
        ) i
        group by i.stage, i.state, i.recipe, i.outcome having sum(i.n) <> 0;
    end if;
    get diagnostics added = row_count;
    if added > 0 and lastval() / 256 > (lastval() - added) / 256 then
        perform add_up_item_counts();
    end if;
    return null;
end
$$;

-- Replace the rows of `item_counts` by one row for each combination. Rows that another transaction is adding up are left to it.
create or replace function add_up_item_counts() returns void language plpgsql as $$
begin
    with locked as materialized (
        select change_id from item_counts order by change_id limit 5000 for update skip locked
    ), removed as (
        delete from item_counts c using locked where c.change_id = locked.change_id
        returning c.stage, c.state, c.recipe, c.outcome, c.n
    )
    insert into item_counts (stage, state, recipe, outcome, n)
    select stage, state, recipe, outcome, sum(n) from removed
    group by stage, state, recipe, outcome having sum(n) <> 0;
end
$$;

create or replace trigger count_inserted_items after insert on work_items
referencing new table as after_change for each statement execute function count_items();
create or replace trigger count_updated_items after update on work_items
referencing old table as before_change new table as after_change for each statement execute function count_items();
create or replace trigger count_deleted_items after delete on work_items
referencing old table as before_change for each statement execute function count_items();
create or replace trigger count_truncated_items after truncate on work_items
for each statement execute function count_items();
