-- Slots: how a finished call changes the slot that answered it.

-- After a successful call: reset the counts of consecutive 429s and equal faults. Writes only if there are any.
create or replace function note_success(slot_names text[]) returns void language plpgsql as $$
begin
    update slots set busy_in_a_row = 0, fault_code = null, fault_items = '{}'
    where name = any(slot_names) and (busy_in_a_row > 0 or fault_code is not null);
end
$$;

-- Each change between a closed breaker and another state is kept, so that people can see how much of an hour a slot was
-- available.
create or replace function note_breaker() returns trigger language plpgsql as $$
begin
    insert into availability (slot, is_available) values (new.name, new.breaker = 'closed');
    return null;
end
$$;
create or replace trigger note_breaker after update of breaker on slots for each row
when ((old.breaker = 'closed') is distinct from (new.breaker = 'closed')) execute function note_breaker();
