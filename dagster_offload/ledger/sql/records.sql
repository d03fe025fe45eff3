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
    case when known.are_corrected then corrected_fields(d.digest) end as corrected
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
