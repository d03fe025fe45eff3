-- Let the sinks look at the records of these documents when this transaction commits. Costs next to nothing without a sink.
create or replace function note_record_changes(changed bigint[]) returns void language plpgsql as $$
begin
    if exists (select from sinks where is_configured) then
        insert into changed_records (document_id) select distinct document_id from unnest(changed) as c (document_id);
        perform pg_notify('offload_' || current_schema() || '_sinks', '');
    end if;
end
$$;

-- The key of a delivery, the same at each attempt and of no other delivery, also after a backup was restored.
create or replace function delivery_key(delivery_id bigint, version text) returns text language plpgsql stable as $$
begin
    return (select md5(concat_ws('/', i.ledger_id, delivery_key.delivery_id, delivery_key.version)) from identity i);
end
$$;

-- Let the sinks look at the records that the removal of these stages changes, when this transaction commits. They look document
-- by document, in batches, because there may be a million of them and this transaction locks the stages. A sender that waits
-- for these stages goes on.
create or replace function note_changed_stages(removed text[]) returns void language plpgsql as $$
begin
    update sinks set filled_to = 0,
        removed_stages = case
            when filled_to is null then removed
            when removed_stages is not null then removed_stages || removed
        end  -- One that looks at all documents goes on with that.
    where is_configured and cardinality(removed) > 0;
    if exists (select from sinks where is_configured) then
        perform pg_notify('offload_' || current_schema() || '_sinks', '');
    end if;
end
$$;
