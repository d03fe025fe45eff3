-- Slots: what a finished call says about the slot that answered it.

-- A call ended well: the rows of 429s and of equal faults are over. Writes only where there was one.
create or replace function note_success(slot_names text[]) returns void language plpgsql as $$
begin
    update slots set busy_in_a_row = 0, fault_code = null, fault_items = '{}'
    where name = any(slot_names) and (busy_in_a_row > 0 or fault_code is not null);
end
$$;
