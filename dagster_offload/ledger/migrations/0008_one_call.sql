-- Claims and finishes in one call each: a lane of a fast slot waits for nothing longer than for these two.
-- What they mean stands in ledger/claims.py and ledger/groups.py, their only callers.

-- Its time has come; or it was put off by another slot than the one in question, or by one that has closed its breaker
-- since. `epochs`: those of all slots, read once a query. Without subqueries, so that the planner takes it apart.
create function is_due(i work_items, at_slot text, epochs jsonb) returns boolean language sql as $$
    select i.not_before is null or i.not_before <= clock_timestamp()
        or (i.state = 'deferred' and coalesce(i.deferred_slot <> at_slot
            or (epochs ->> i.deferred_slot)::bigint > i.deferred_epoch, false))
$$;

create function may_be_claimed(i work_items, stages text[], is_alone boolean, at_slot text, epochs jsonb)
returns boolean language sql as $$
    select i.state in ('pending', 'deferred') and i.stage = any(stages) and i.must_run_alone = is_alone
        and i.input_digest is not null and is_due(i, at_slot, epochs)
$$;

-- The epoch of every slot.
create function epochs() returns jsonb language sql stable as $$
    select jsonb_object_agg(name, epoch) from slots
$$;

-- The two functions below look single rows up, by an index. They are planned once a connection, perhaps while a table
-- is empty or before anybody knows that it has grown: so no plan that reads a whole table is left to choose. Before
-- PostgreSQL 18 that makes a plan look so dear that it would be compiled, which takes most of a second.

-- Document by document, each with `limit 1`: any other limit may talk the planner into a sort of the whole backlog.
create function take_documents(
    taker integer, stages text[], recipes jsonb, only_documents bigint[], most integer, is_alone boolean, at_slot text
) returns table (document_id bigint, key text, token bigint, text text, items jsonb)
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
    slot_epochs jsonb := epochs();
    tried bigint[] := '{}';
    found_id bigint;
    found_key text;
    new_token bigint;
    ours bigint[];
    claimed jsonb;
begin
    -- Nobody reclaims a worker's claims before this transaction ends, and one that was given up gets none.
    perform from workers where worker_id = taker and ended_at is null for key share;
    if not found then
        return;
    end if;
    while most > 0 loop
        -- Nobody holds a stage of the document, or the same input in another document.
        if only_documents is null then
            select d.document_id, d.key into found_id, found_key
            from work_items i join documents d using (document_id)
            where may_be_claimed(i, stages, is_alone, at_slot, slot_epochs) and d.is_present
                and i.document_id <> all(tried)
                and not exists (select from work_items o where o.document_id = i.document_id and o.state = 'claimed')
                and not exists (select from work_items o
                    where o.state = 'claimed' and o.stage = i.stage and o.input_digest = i.input_digest)
            order by i.priority desc, i.document_id limit 1 for update of d skip locked;
        else
            select d.document_id, d.key into found_id, found_key
            from work_items i join documents d using (document_id)
            where may_be_claimed(i, stages, is_alone, at_slot, slot_epochs) and d.is_present
                and i.document_id = any(only_documents) and i.document_id <> all(tried)
                and not exists (select from work_items o where o.document_id = i.document_id and o.state = 'claimed')
                and not exists (select from work_items o
                    where o.state = 'claimed' and o.stage = i.stage and o.input_digest = i.input_digest)
            order by i.priority desc, i.document_id limit 1 for update of d skip locked;
        end if;
        exit when found_id is null;
        tried := tried || found_id;
        -- Two documents with the same content must not be claimed at the same instant: their claimers would both pay.
        select array_agg(i.item_id) into ours from work_items i
        where i.document_id = found_id and may_be_claimed(i, stages, is_alone, at_slot, slot_epochs)
            and pg_try_advisory_xact_lock(hashtext('input ' || i.stage), hashtext(i.input_digest));
        -- A second look at the items, under the locks.
        new_token := nextval('claim_tokens');
        with due as (
            select i.item_id, i.state from work_items i
            where i.item_id = any(ours) and may_be_claimed(i, stages, is_alone, at_slot, slot_epochs)
                and not exists (select from work_items o where o.document_id = i.document_id and o.state = 'claimed')
                and not exists (select from work_items o
                    where o.state = 'claimed' and o.stage = i.stage and o.input_digest = i.input_digest)
            order by i.item_id for update
        ), taken as (
            update work_items w set state = 'claimed', worker_id = taker, token = new_token,
                recipe = recipes ->> w.stage, claimed_at = clock_timestamp(), claimed_alone = is_alone,
                not_before = null, changed_at = clock_timestamp()
            from due where w.item_id = due.item_id
            returning w.item_id, w.stage, w.input_digest, w.recipe, w.attempts, w.deferrals, w.part_sizes, due.state,
                not w.is_redo and (select r.result_id from results r where r.stage = w.stage
                    and r.input_digest = w.input_digest and r.recipe = recipes ->> w.stage
                    and r.superseded_at is null) is not null as is_answered
        ), recorded as (
            insert into transitions (document_id, stage, from_state, to_state, worker_id)
            select found_id, stage, state, 'claimed', taker from taken where not is_answered order by item_id
        )
        select jsonb_agg(to_jsonb(taken)) into claimed from taken;
        if claimed is not null then
            return query select found_id, found_key, new_token, (
                select r.text from work_items x join results r using (result_id)
                where x.document_id = found_id and x.stage = 'extract' and stages <> '{extract}'
            ), claimed;
            most := most - 1;
        end if;
    end loop;
end
$$;

-- The ordinary finishes of a group: those that still hold their work item, with a key that has no result yet.
-- `result_keys`: of all finishes of the transaction, in order. Returns the items done.
create function finish_group(finishes jsonb, result_keys text[], finisher integer, run text) returns setof bigint
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
begin
    perform from work_items w
    join jsonb_to_recordset(finishes) as f (item_id bigint, token bigint, input_digest text, recipe text) using (item_id)
    where w.state = 'claimed' and w.token = f.token and w.input_digest = f.input_digest and w.recipe = f.recipe
    order by w.item_id for update of w;
    perform pg_advisory_xact_lock(hashtext('result'), hashtext(key)) from unnest(result_keys) as key;
    update slots set busy_in_a_row = 0, fault_code = null, fault_items = '{}'
    where name in (select f.slot from jsonb_to_recordset(finishes) as f (slot text))
        and (busy_in_a_row > 0 or fault_code is not null);
    return query
    with f as materialized (
        select f.*, w.document_id from jsonb_to_recordset(finishes) as f (
            item_id bigint, token bigint, first_document text, stage text, input_digest text, recipe text, outcome text,
            value jsonb, output_digest text, slot text, epoch bigint, asked_model text, served_model text,
            model_evidence text, tokens_in integer, tokens_out integer, tokens_cached integer, seconds double precision,
            call_outcome text, part text)
        join work_items w using (item_id)
        where w.state = 'claimed' and w.token = f.token and w.input_digest = f.input_digest and w.recipe = f.recipe
            and not w.is_redo
    ), stored as (
        insert into results (stage, input_digest, recipe, outcome, value, output_digest, slot, served_model,
            model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document)
        select stage, input_digest, recipe, outcome, value, output_digest, slot, served_model, model_evidence,
            tokens_in, tokens_out, tokens_cached, seconds, first_document from f
        on conflict (stage, input_digest, recipe) where superseded_at is null do nothing
        returning result_id, stage, input_digest, recipe
    ), done as (
        update work_items w set state = 'done', outcome = f.outcome, result_id = stored.result_id, recipe = f.recipe,
            reason = null, not_before = null, worker_id = null, token = null, claimed_at = null, is_redo = false,
            must_run_alone = false, changed_at = clock_timestamp()
        from f join stored using (stage, input_digest, recipe) where w.item_id = f.item_id
        returning w.item_id, w.document_id, w.stage, w.result_id, w.attempts, w.deferrals
    ), called as (
        insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, served_model,
            model_evidence, tokens_in, tokens_out, tokens_cached, seconds, outcome, part)
        select f.item_id, f.document_id, f.stage, finisher, f.slot, f.epoch, f.asked_model, f.served_model,
            f.model_evidence, f.tokens_in, f.tokens_out, f.tokens_cached, f.seconds, f.call_outcome, f.part
        from f join done using (item_id)
    ), moved as (
        insert into transitions (document_id, stage, from_state, to_state, worker_id)
        select document_id, stage, 'claimed', 'done', finisher from done order by item_id
    ), queued as (
        insert into outbox (result_id, document_id, stage, run_id, attempts, deferrals)
        select result_id, document_id, stage, run, attempts, deferrals from done order by item_id
    )
    select item_id from done;
end
$$;
