-- A text as a date or a time; null if it is none, such as 2025-02-30. A cast would end the whole query.
create or replace function date_or_null(written text) returns date language plpgsql stable as $$
begin
    return case when written ~ '^\d{4}-\d{2}-\d{2}$' then written::date end;
exception when data_exception then
    return null;
end
$$;

create or replace function time_or_null(written text) returns timestamptz language plpgsql stable as $$
begin
    return case when written ~ '^\d{4}-\d{2}-\d{2}T' then written::timestamptz end;
exception when data_exception then
    return null;
end
$$;

-- For people and their tools: one row per document present, with the results of its stages. New columns go at the end, and
-- no column is ever removed.

create or replace view records as
select
    d.key as document,
    cv.value ->> 'category' as category,
    (cv.value ->> 'confidence')::double precision as confidence,
    coalesce(sv.value ->> 'language', cv.value ->> 'language') as language,
    sv.value ->> 'title' as title,
    sv.value ->> 'summary' as summary,
    sv.value -> 'key_points' as key_points,
    x.text as text,
    x.outcome as outcome,
    s.served_model as served_model,
    greatest(x.created_at, c.created_at, s.created_at) as updated_at,
    sv.value -> 'doubtful' as doubtful,
    (
        select i.state from work_items i join stages t on t.name = i.stage where i.document_id = d.document_id
        order by array_position(array['failed', 'quarantined', 'deferred', 'claimed', 'pending', 'done'], i.state) limit 1
    ) as state,
    (
        select i.reason from work_items i join stages t on t.name = i.stage where i.document_id = d.document_id
        order by array_position(array['failed', 'quarantined', 'deferred', 'claimed', 'pending', 'done'], i.state),
            i.reason is null, t.position limit 1
    ) as reason,
    (
        -- the records of all stages, by name: {"payment": {"amount": 12.5}}
        select jsonb_object_agg(
            i.stage, case when known.are_corrected and i.outcome <> 'not_applicable'
                then corrected(r.value, d.digest, i.stage) else r.value end
        )
        from work_items i join stages t on t.name = i.stage join results r using (result_id)
        where i.document_id = d.document_id and t.upstream is not null and i.state = 'done'
    ) as stages,
    case when known.are_corrected then corrected_fields(d.document_id) end as corrected
from documents d
left join work_items xi on xi.document_id = d.document_id and xi.stage = 'extract'
left join results x on x.result_id = xi.result_id
left join work_items ci on ci.document_id = d.document_id and ci.stage = 'classify'
left join results c on c.result_id = ci.result_id
left join work_items si on si.document_id = d.document_id and si.stage = 'summarize'
left join results s on s.result_id = si.result_id
cross join (select exists (select from corrections) as are_corrected) known
cross join lateral (
    select case when known.are_corrected then corrected(c.value, d.digest, 'classify') else c.value end as value
) cv
cross join lateral (
    select case when known.are_corrected then corrected(s.value, d.digest, 'summarize') else s.value end as value
) sv
where d.is_present;
