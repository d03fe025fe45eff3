-- Slots: how a finished call changes the slot that answered it.

-- After a successful call: reset the counts of consecutive 429s and equal faults. Writes only if there are any.
create or replace function note_success(slot_names text[]) returns void language plpgsql as $$
begin
    update slots set busy_in_a_row = 0, fault_code = null, fault_items = '{}'
    where name = any(slot_names) and (busy_in_a_row > 0 or fault_code is not null);
end
$$;
