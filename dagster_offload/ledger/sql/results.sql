-- Results: `finish` records answers, `mark_done` is the only function that makes a work item done, `complete_by_reuse`
-- completes items that an existing result answers.

-- Record results and all that follows from them: calls, states, items of later stages, events. Fenced: an item is done
-- only if token, input digest and recipe still match. A result that comes too late is kept, because it was paid for.
-- Returns the positions `n` of the results whose claim still held the item.
-- `finishes`: [{n, item_id, token, document_id, document, stage, input_digest, recipe, outcome, value, output_digest, slot,
-- url, served_model, model_evidence, tokens_in, tokens_out, tokens_cached, seconds, calls: [...]}]; n counts from 1.
-- `texts`: by n, null if the result has none. They are a separate argument because jsonb holds at most 256 MB.
create or replace function finish(finishes jsonb, texts text[], finisher integer, run text, recipes jsonb)
returns setof integer
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    held integer[];
    has_redo boolean;
    done_items bigint[];
    their_results bigint[];
begin
    select coalesce(array_agg(locked.n), '{}'), coalesce(bool_or(locked.is_redo), false) into held, has_redo from (
        select f.n, w.is_redo from work_items w
        join jsonb_to_recordset(finishes) as f (n integer, item_id bigint, token bigint, input_digest text, recipe text)
            using (item_id)
        -- The ids apart from the join: a plan that was made while the table was small would else read all of it.
        where w.item_id = any(array(select (each ->> 'item_id')::bigint from jsonb_array_elements(finishes) as each))
            and w.state = 'claimed' and w.token = f.token and w.input_digest = f.input_digest and w.recipe = f.recipe
        order by w.item_id for update of w
    ) locked;
    -- Without the locks, two workers with the same key would each see no result. The fixed order prevents deadlocks.
    perform pg_advisory_xact_lock(hashtext('result'), hashtext(key)) from (
        select distinct concat_ws(E'\t', f.stage, f.input_digest, f.recipe) collate "C" as key
        from jsonb_to_recordset(finishes) as f (stage text, input_digest text, recipe text) order by 1
    ) keys;
    if has_redo then -- a redo replaces the current result
        update results r set superseded_at = clock_timestamp()
        from jsonb_to_recordset(finishes) as f (n integer, item_id bigint), work_items w
        where f.n = any(held) and w.item_id = f.item_id and w.is_redo and r.stage = w.stage
            and r.input_digest = w.input_digest and r.recipe = w.recipe and r.superseded_at is null;
    end if;
    with f as materialized (
        select f.*, row_number() over (
            partition by f.stage, f.input_digest, f.recipe order by (w.is_redo and f.n = any(held)) is true desc, f.n
        ) as turn, (
            -- Not `exists`: the planner could then read all results.
            select r.result_id from results r where r.stage = f.stage and r.input_digest = f.input_digest
                and r.recipe = f.recipe and r.superseded_at is null
        ) as current_result
        from jsonb_to_recordset(finishes) as f (
            n integer, item_id bigint, document_id bigint, document text, stage text, input_digest text, recipe text,
            outcome text, value jsonb, output_digest text, slot text, served_model text, model_evidence text,
            tokens_in integer, tokens_out integer, tokens_cached integer, seconds double precision, calls jsonb)
        -- A look-up for each, for the same reason.
        left join lateral (select w.is_redo from work_items w where w.item_id = f.item_id limit 1) w on true
    ), called as (
        insert into calls (item_id, document_id, stage, worker_id, slot, epoch, asked_model, served_model, model_evidence,
            tokens_in, tokens_out, tokens_cached, seconds, outcome, part)
        select f.item_id, f.document_id, f.stage, finisher, c.slot, c.epoch, c.asked_model, c.served_model,
            c.model_evidence, c.tokens_in, c.tokens_out, c.tokens_cached, c.seconds, c.outcome, c.part
        from f cross join jsonb_to_recordset(f.calls) as c (
            slot text, epoch bigint, asked_model text, served_model text, model_evidence text, tokens_in integer,
            tokens_out integer, tokens_cached integer, seconds double precision, outcome text, part text)
        order by f.n
    ), stored as (
        insert into results (stage, input_digest, recipe, outcome, text, value, output_digest, slot, served_model,
            model_evidence, tokens_in, tokens_out, tokens_cached, seconds, first_document, superseded_at)
        select f.stage, f.input_digest, f.recipe, f.outcome, texts[f.n], f.value, f.output_digest, f.slot, f.served_model,
            f.model_evidence, f.tokens_in, f.tokens_out, f.tokens_cached, f.seconds, f.document,
            case when f.turn > 1 or f.current_result is not null then clock_timestamp() end
        from f order by f.n
        returning result_id, stage, input_digest, recipe, superseded_at
    )
    select array_agg(f.item_id), array_agg(coalesce(f.current_result, s.result_id)) into done_items, their_results
    from f left join stored s on s.stage = f.stage and s.input_digest = f.input_digest and s.recipe = f.recipe
        and s.superseded_at is null
    where f.n = any(held);
    if exists (select from slots s join jsonb_to_recordset(finishes) as f (slot text, url text) on f.slot = s.name
            where s.busy_in_a_row > 0 or s.answered_url is distinct from f.url)
        or exists (select from stage_faults where held_since is null) then
        perform note_success(array_agg(f.slot), array_agg(f.stage), array_agg(f.url))
        from jsonb_to_recordset(finishes) as f (slot text, stage text, url text);
    end if;
    if done_items is not null then
        perform mark_done(done_items, their_results, finisher, run, recipes);
    end if;
    return query select unnest(held);
end
$$;

-- Complete those of these items that a current result answers: a renamed or copied file costs no call.
-- Items of a redo are left alone. Returns the completed items. `finisher`: the worker that took them; null = no worker.
create or replace function complete_by_reuse(given_items bigint[], recipes jsonb, run text, finisher integer default null)
returns setof bigint
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    answered bigint[];
    their_results bigint[];
begin
    select array_agg(w.item_id), array_agg(r.result_id) into answered, their_results
    from work_items w cross join lateral (
        select r.result_id from results r where r.stage = w.stage and r.input_digest = w.input_digest
            and r.recipe = recipes ->> w.stage and r.superseded_at is null limit 1
    ) r
    where w.item_id = any(given_items) and not w.is_redo;
    if answered is not null then
        perform mark_done(answered, their_results, finisher, run, recipes);
        return query select unnest(answered);
    end if;
end
$$;

-- How far a text of this many bytes goes behind shorter ones of its priority: 0 up to 64 KiB, 1 up to 128 KiB, and so on. So
-- a table of 4 MB, whose parts take a hundred calls, does not keep letters waiting. `let_long_texts_in` ends it after a day.
create or replace function turns_behind(bytes bigint) returns integer language sql immutable as $$
    select case when bytes <= 65536 then 0 else ceil(log(2.0, bytes / 65536.0))::integer end
$$;

-- Mark items as done with these results (`done_items` and `their_results` in the same order), queue their events, and start
-- the items of the stages that need them. `finisher`: null = no worker.
create or replace function mark_done(
    done_items bigint[], their_results bigint[], finisher integer, run text, recipes jsonb
) returns void
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    done_documents bigint[];
    followers text[];
begin
    with locked as materialized (
        select w.item_id, w.document_id, w.state, given.result_id from work_items w
        join unnest(done_items, their_results) as given (item_id, result_id) using (item_id)
        where w.item_id = any(done_items) order by w.item_id for update of w
    ), before as materialized (
        select * from locked cross join lateral (
            select r.outcome, r.recipe, r.output_digest, r.first_document from results r
            where r.result_id = locked.result_id limit 1
        ) r cross join lateral (
            select d.key from documents d where d.document_id = locked.document_id limit 1
        ) d
    ), done as (
        update work_items w set state = 'done', outcome = b.outcome, result_id = b.result_id, recipe = b.recipe,
            reason = null, not_before = null, is_redo = false, must_run_alone = false, changed_at = clock_timestamp()
        from before b where w.item_id = any(done_items) and w.item_id = b.item_id
        returning w.item_id, w.document_id, w.stage, w.result_id, w.attempts, w.deferrals, b.state as from_state,
            -- All documents to which a stage does not apply share one result, though they have nothing else in common.
            case when w.outcome <> 'not_applicable' then nullif(b.first_document, b.key) end as reused_from,
            case when w.outcome = 'not_applicable' then 'its condition is not met' end as why
    ), moved as (
        insert into transitions (document_id, stage, from_state, to_state, worker_id, reason)
        select document_id, stage, from_state, 'done', finisher, coalesce(why, 'reused from ' || reused_from)
        from done order by item_id
    ), queued as (
        insert into outbox (result_id, document_id, stage, run_id, reused_from, attempts, deferrals)
        select result_id, document_id, stage, run, reused_from, attempts, deferrals from done order by item_id
    )
    select array_agg(done.document_id), (
        select array_agg(s.name) from stages s
        where s.upstream = any(array_agg(done.stage)) or s.condition ?| array_agg(done.stage)
    ) into done_documents, followers from done;
    if followers is not null then
        perform start_items(done_documents, followers, run, recipes);
    end if;
    perform note_record_changes(done_documents);
end
$$;

-- Create the items of `given_stages` for those of these documents in which all the stages they need are done; pending, or
-- done at once if no call is needed: the upstream stage has no text, or the stage's condition is not met. An existing item
-- restarts if its input is another one now, and stays as it is if not.
create or replace function start_items(given_documents bigint[], given_stages text[], run text, recipes jsonb) returns void
language plpgsql
set plan_cache_mode = force_generic_plan set jit = off
set enable_seqscan = off set enable_bitmapscan = off
as $$
declare
    started bigint[];
begin
    with f as materialized (
        select d.document_id, d.key as document, d.priority - r.behind as priority, s.name as stage, s.position,
            case when r.outcome = 'ok' and not met.is_met then 'not_applicable' else r.outcome end as outcome,
            -- All documents to which a stage does not apply share one result.
            case when r.outcome = 'ok' and not met.is_met then 'not_applicable' else r.output_digest end as input_digest,
            concat_ws(' and ', s.upstream, (select string_agg(c.stage, ' and ' order by c.stage)
                from jsonb_object_keys(s.condition) as c (stage) where c.stage <> s.upstream)) as needed
        from stages s cross join documents d
        -- By key: a plan that was made while the table was empty would else read all done items of the stage.
        cross join lateral (
            select w.state, w.result_id from work_items w
            where w.document_id = d.document_id and w.stage = s.upstream limit 1
        ) u
        cross join lateral (
            select r.outcome, r.output_digest,
                -- The stored size is known without reading the text, and few texts shrink to a tenth.
                case when pg_column_size(r.text) > 6553 then turns_behind(octet_length(r.text)) else 0 end as behind
            from results r where r.result_id = u.result_id limit 1
        ) r
        cross join lateral (select is_met(s.condition, d.document_id)) as met (is_met)
        where s.name = any(given_stages) and d.document_id = any(given_documents) and d.is_present and u.state = 'done'
            and not exists (select from jsonb_object_keys(s.condition) as c (stage)
                where (select o.state from work_items o where o.document_id = d.document_id and o.stage = c.stage)
                    is distinct from 'done')
        order by d.document_id, s.position
    ), started_items as (
        insert into work_items as w (document_id, stage, input_digest, priority)
        select document_id, stage, input_digest, priority from f
        on conflict (document_id, stage) do update set input_digest = excluded.input_digest, state = 'pending',
            attempts = 0, deferrals = 0, reclaims = 0, lone_deaths = 0, must_run_alone = false, not_before = null,
            is_redo = false, reason = 'the text changed',
            part_sizes = case when w.input_digest = excluded.input_digest then w.part_sizes end,
            parts_done = 0, parts_total = null, priority = excluded.priority, changed_at = clock_timestamp()
        where w.input_digest is distinct from excluded.input_digest or w.state = 'gone'
        returning w.item_id, w.document_id, w.stage
    ), without_call as (
        insert into results (stage, input_digest, recipe, outcome, output_digest, first_document)
        select f.stage, f.input_digest, recipes ->> f.stage, f.outcome, f.input_digest, f.document
        from f join started_items using (document_id, stage)
        where f.outcome <> 'ok' order by f.input_digest, f.stage, f.document_id
        on conflict (stage, input_digest, recipe) where superseded_at is null do nothing
    ), announced as (
        insert into transitions (document_id, stage, to_state, reason)
        select i.document_id, i.stage, 'pending', f.needed || case when position(' and ' in f.needed) > 0 then ' are done' else ' is done' end
        from started_items i join f using (document_id, stage) order by i.item_id
    )
    select array_agg(item_id) into started from started_items;
    if started is not null then
        perform complete_by_reuse(started, recipes, run);
    end if;
end
$$;

-- A value of an answer with its texts in Unicode NFC, the form that conditions have. A model copies the texts of a document as they
-- are. Up to version 0.2.0, answers also held names of classes and fields as the pipeline file has them: in NFD if from a Mac.
create or replace function in_nfc(given jsonb) returns jsonb language plpgsql stable as $$
begin
    return case jsonb_typeof(given)
        when 'string' then to_jsonb(normalize(given #>> '{}'))
        when 'array' then (
            select coalesce(jsonb_agg(in_nfc(entry) order by place), '[]')
            from jsonb_array_elements(given) with ordinality as e (entry, place)
        )
        else given end;
end
$$;

-- Whether a document's answers meet a stage's condition: in each of its fields one of the values, or an entry of a list.
create or replace function is_met(condition jsonb, given_document bigint) returns boolean language plpgsql stable as $$
begin
    return condition is null or not exists (
        select from jsonb_each(condition) as c (stage, fields), jsonb_each(c.fields) as f (name, allowed)
        where not coalesce((
            select case when jsonb_typeof(answered.value) = 'array'
                then exists (select from jsonb_array_elements(answered.value) as entry where f.allowed @> entry)
                else f.allowed @> answered.value end
            from (
                select w.state, w.result_id from work_items w
                where w.document_id = given_document and w.stage = c.stage limit 1
            ) i join results r using (result_id)
            cross join lateral (select case when r.outcome <> 'not_applicable'
                then corrected(r.value, d.digest, c.stage) end as value
                from documents d where d.document_id = given_document) answer
            cross join lateral (
                select in_nfc(coalesce(answer.value -> f.name, answer.value -> normalize(f.name, NFD))) as value
            ) answered
            where i.state = 'done'
        ), false)
    );
end
$$;

-- Create the items that documents lack because a stage was added or its needs changed: for the next `most` documents in the
-- order of their ids, of one stage. Returns whether more remain.
create or replace function fill_items(most integer, recipes jsonb) returns boolean language plpgsql as $$
declare
    unfilled record;
    next_documents bigint[];
begin
    select s.name, s.filled_to into unfilled from stages s where s.filled_to is not null
    order by s.position limit 1 for update;
    if not found then
        return false;
    end if;
    next_documents := array(
        select d.document_id from documents d where d.document_id > unfilled.filled_to order by d.document_id limit most
    );
    perform start_items(next_documents, array[unfilled.name], null, recipes);
    update stages set filled_to = next_documents[array_upper(next_documents, 1)] where name = unfilled.name;
    return exists (select from stages s where s.filled_to is not null);
end
$$;

-- Long texts that have waited for a day stand in line by age alone, so that new short ones cannot keep them back for ever.
create or replace function let_long_texts_in() returns void
language plpgsql
set enable_seqscan = off
as $$
begin
    update work_items w set priority = d.priority
    from documents d, work_items x
    where w.state in ('pending', 'deferred') and w.stage in (select name from stages where upstream is not null)
        and w.must_run_alone in (false, true) and w.priority < 0 and d.document_id = w.document_id and w.priority < d.priority
        and x.document_id = w.document_id and x.stage = first_stage()
        and x.changed_at < clock_timestamp() - interval '1 day';
end
$$;
