-- Partitions of several documents. `ledger/partitions/assigning.py` creates the triggers while a rule groups documents, so that
-- they cost nothing otherwise.

-- Note the partitions whose documents this statement added, removed, finished or restarted. A partition is complete for a
-- stage only if all its documents are done, so the states between two claims do not matter.
create or replace function note_partition_changes() returns trigger
language plpgsql
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
begin
    if tg_op = 'INSERT' then
        insert into partition_changes (partition)
        select distinct d.partition from changed c join documents d using (document_id) where d.partition is not null;
    elsif tg_op = 'DELETE' then
        insert into partition_changes (partition)
        select distinct d.partition from before b join documents d using (document_id) where d.partition is not null;
    else
        insert into partition_changes (partition)
        select distinct d.partition from (
            select document_id from changed where state in ('done', 'gone')
            union select document_id from before where state in ('done', 'gone')
        ) c join documents d using (document_id) where d.partition is not null;
    end if;
    return null;
end
$$;
