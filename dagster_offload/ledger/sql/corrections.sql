-- A stage's record with the corrections of a file's bytes. The quotes and marks of a corrected field belong to the model's
-- value, so they are left out.
create or replace function corrected(answer jsonb, file_digest text, given_stage text) returns jsonb
language plpgsql stable as $$
declare
    fields text[];
    new_values jsonb;
begin
    select array_agg(c.field), jsonb_object_agg(c.field, c.value) into fields, new_values
    from corrections c where c.digest = file_digest and c.stage = given_stage;
    if fields is null then
        return answer;
    end if;
    answer := coalesce(answer, '{}') || new_values;
    if jsonb_typeof(answer -> 'quotes') = 'object' then
        answer := jsonb_set(answer, '{quotes}', (answer -> 'quotes') - fields);
    end if;
    if jsonb_typeof(answer -> 'unsupported') = 'array' then
        answer := jsonb_set(answer, '{unsupported}', (answer -> 'unsupported') - fields);
    end if;
    return answer;
end
$$;

-- The corrected fields of a document's record of a stage, or of all its records as `stage.field`; null if there are none. A stage
-- whose condition is not met shows nothing of itself.
create or replace function corrected_fields(given_document bigint, given_stage text default null) returns jsonb
language plpgsql stable as $$
begin
    return (
        select jsonb_agg(case when given_stage is null then concat_ws('.', c.stage, c.field) else c.field end
            order by c.stage, c.field)
        from documents d join corrections c using (digest)
        join work_items i on i.document_id = d.document_id and i.stage = c.stage join stages t on t.name = c.stage
        where d.document_id = given_document and (given_stage is null or c.stage = given_stage)
            and (i.state, i.outcome) is distinct from ('done', 'not_applicable')
    );
end
$$;
