-- Claims: which work is due, and `take`, the only function that claims it.

-- The epoch of every slot, by name: {"deep": 3}.
create or replace function epochs() returns jsonb language plpgsql stable as $$
begin
    return (select jsonb_object_agg(name, epoch) from slots);
end
$$;

-- Whether a waiting item is due: its time has come, or a slot other than `at_slot` deferred it and `at_slot` has not failed
-- it alone meanwhile, or the slot that deferred it has closed its breaker since. `epochs`: the result of epochs(), read once
-- per query. The function has no subquery, so that the planner can inline it.
create or replace function is_due(i work_items, at_slot text, epochs jsonb) returns boolean language sql as $$
    select i.not_before is null or i.not_before <= clock_timestamp()
        or (i.state = 'deferred' and coalesce((i.deferred_slot <> at_slot
                and coalesce((epochs ->> at_slot)::bigint > (i.failed_alone ->> at_slot)::bigint, true))
            or (epochs ->> i.deferred_slot)::bigint > i.deferred_epoch, false))
$$;

-- Waiting items that nothing blocks: no stage of the document is claimed, no stage whose answer it needs waits to be done
-- again, and no other document with the same input is claimed in this stage. `item` is the whole row. `offset 0` keeps the planner from turning the two look-ups into joins.
-- The condition on `token` (only a claim has one) makes the first look-up read the document's few items instead of the
-- index of all claims. The other plans look cheap while nothing is claimed.
create or replace view free_items as
select i as item, i.item_id, i.document_id, i.stage, i.state, i.input_digest, i.must_run_alone, i.priority
from work_items i
where i.state in ('pending', 'deferred') and i.input_digest is not null
    and not exists (select from work_items o where o.document_id = i.document_id and o.token is not null offset 0)
    and not exists (select from stages s join stages n on n.name = s.upstream or s.condition ? n.name
        join work_items o on o.stage = n.name
        where s.name = i.stage and n.upstream is not null and o.document_id = i.document_id
            and o.state in ('pending', 'deferred') offset 0)
    and not exists (select from work_items o
        where o.state = 'claimed' and o.stage = i.stage and o.input_digest = i.input_digest offset 0);

-- An item that leaves `claimed` has no holder. Only this trigger clears the holder, for every statement that changes a
-- state.
create or replace function clear_holder() returns trigger language plpgsql as $$
begin
    new.worker_id := null;
    new.token := null;
    new.claimed_at := null;
    return new;
end
$$;

create or replace trigger clear_holder before update of state on work_items
for each row when (old.state = 'claimed' and new.state <> 'claimed') execute function clear_holder();

-- Claim up to `most` documents with due items in `only_stages`, highest priority first, then oldest. One row per document;
-- `items`: the highest priority first, then in declared order of stages, without those that an existing result completed.
-- `only_documents`: null = all. `is_alone`: only documents that must run alone, else none of them. `at_slot`: see is_due;
-- no item of a stage that this slot holds is claimed.
--
-- Plans are made once per connection, perhaps while the tables are empty. The settings rule out plans that read a whole
-- table or sort the backlog. Before PostgreSQL 18 a disabled plan node looks so expensive that the plan would be compiled,
-- which takes most of a second: hence `jit = off`.
create or replace function take(
    taker integer, only_stages text[], recipes jsonb, only_documents bigint[], most integer, is_alone boolean,
    at_slot text, run text
) returns table (document_id bigint, key text, token bigint, text text, items jsonb)
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off
set enable_material = off
as $$
#variable_conflict use_column
declare
    slot_epochs jsonb := epochs();
    first text := first_stage();
    tried bigint[] := '{}';
    candidates bigint[];
    ours bigint[];
    taken jsonb;
    answered bigint[];
    taken_now integer;
begin
    -- A worker that was reclaimed gets nothing. The lock keeps others from reclaiming this one before this transaction ends.
    perform from workers where worker_id = taker and ended_at is null for key share;
    if not found then
        return;
    end if;
    only_stages := not_held(at_slot, only_stages);
    while most > 0 and only_stages <> '{}' loop
        -- Find candidates without locks: first among the next few due items of each stage, because many items of a stage may
        -- wait for another stage of their documents, which is then a candidate.
        candidates := array(
            select c.document_id from unnest(only_stages) as s (stage) cross join lateral (
                select f.priority, f.document_id from (
                    select i.item_id from work_items i
                    where only_documents is null and i.stage = s.stage and i.state in ('pending', 'deferred')
                        and i.must_run_alone = is_alone and i.input_digest is not null
                        and is_due(i, at_slot, slot_epochs) and i.document_id <> all(tried)
                    order by i.priority desc, i.document_id limit most + 2
                ) next join free_items f using (item_id)
            ) c
            group by c.document_id order by max(c.priority) desc, c.document_id limit most
        );
        -- Then among all, stage by stage along the index.
        if candidates = '{}' then
            candidates := array(
                select c.document_id from unnest(only_stages) as s (stage) cross join lateral (
                    (select i.priority, i.document_id from free_items i
                    where only_documents is null and i.stage = s.stage and i.must_run_alone = is_alone
                        and is_due(i.item, at_slot, slot_epochs) and i.document_id <> all(tried)
                    order by i.priority desc, i.document_id limit most)
                    union all
                    select i.priority, i.document_id from unnest(only_documents) as o (document_id)
                    join free_items i on i.document_id = o.document_id
                    where i.stage = s.stage and i.must_run_alone = is_alone
                        and is_due(i.item, at_slot, slot_epochs) and i.document_id <> all(tried)
                ) c
                group by c.document_id order by max(c.priority) desc, c.document_id limit most
            );
        end if;
        exit when candidates = '{}';
        -- Of several documents with the same input take only the first: the others will reuse its result. The advisory lock
        -- excludes an input that another worker is claiming in a transaction that is not committed yet.
        ours := array(
            with locked as materialized (
                select d.document_id from documents d where d.document_id = any(candidates) and d.is_present
                order by d.document_id for no key update skip locked
            )
            select firsts.item_id from (
                select distinct on (i.stage, i.input_digest) i.item_id, i.stage, i.input_digest
                from locked cross join lateral (
                    select f.* from free_items f where f.document_id = locked.document_id and f.stage = any(only_stages)
                        and f.must_run_alone = is_alone and is_due(f.item, at_slot, slot_epochs) offset 0
                ) i
                order by i.stage, i.input_digest, i.priority desc, i.document_id
            ) firsts
            where pg_try_advisory_xact_lock(hashtext('input ' || firsts.stage), hashtext(firsts.input_digest))
        );
        -- Check again under the locks.
        with due as materialized (
            select i.item_id, i.document_id, i.state from free_items i
            where i.item_id = any(ours) and i.must_run_alone = is_alone and is_due(i.item, at_slot, slot_epochs)
            order by i.item_id for update
        ), tokens as materialized (
            select d.document_id, nextval('claim_tokens') as token
            from (select document_id from due group by document_id order by document_id) d
        ), claimed as (
            update work_items w set state = 'claimed', worker_id = taker, token = tokens.token,
                recipe = recipes ->> w.stage, claimed_at = clock_timestamp(), claimed_alone = is_alone,
                failed_alone = case when w.not_before > clock_timestamp() then w.failed_alone else '{}' end,
                not_before = null, changed_at = clock_timestamp()
            from due join tokens using (document_id) where w.item_id = due.item_id
            returning w.item_id, w.document_id, w.stage, w.token, w.input_digest, w.recipe, w.attempts, w.deferrals,
                w.part_sizes, w.priority, due.state as from_state, (
                    -- the record that it reads, if it reads one
                    select r.value from stages s join work_items u on u.document_id = w.document_id and u.stage = s.upstream
                    join results r on r.result_id = u.result_id
                    where s.name = w.stage and s.upstream <> first
                ) as record,
                not w.is_redo and (select r.result_id from results r where r.stage = w.stage
                    and r.input_digest = w.input_digest and r.recipe = recipes ->> w.stage
                    and r.superseded_at is null) is not null as is_answered
        ), recorded as (
            insert into transitions (document_id, stage, from_state, to_state, worker_id)
            select document_id, stage, from_state, 'claimed', taker from claimed where not is_answered order by item_id
        )
        select jsonb_agg(to_jsonb(claimed)), coalesce(array_agg(item_id) filter (where is_answered), '{}')
        into taken, answered from claimed;
        if answered <> '{}' then
            answered := array(select complete_by_reuse(answered, recipes, run, taker));
        end if;
        return query
        select t.document_id, (select d.key from documents d where d.document_id = t.document_id), t.token, (
            select r.text from work_items x join results r using (result_id)
            where x.document_id = t.document_id and x.stage = first
                and only_stages <> array[x.stage]
        ), coalesce(jsonb_agg(t.item order by t.priority desc, (select s.position from stages s where s.name = t.item ->> 'stage'))
            filter (where (t.item ->> 'item_id')::bigint <> all(answered)), '[]')
        from (
            select (item ->> 'document_id')::bigint as document_id, (item ->> 'token')::bigint as token,
                (item ->> 'priority')::integer as priority, item
            from jsonb_array_elements(taken) as item
        ) t
        group by t.document_id, t.token order by max(t.priority) desc, t.document_id;
        get diagnostics taken_now = row_count;
        most := most - taken_now;
        -- If items were completed, others with the same input may now be completed too.
        tried := tried || case when answered = '{}' then candidates else array(
            select (item ->> 'document_id')::bigint from jsonb_array_elements(taken) as item) end;
    end loop;
end
$$;
