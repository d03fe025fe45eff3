-- Slots: how a finished call changes the slot that answered it, and which stages a slot takes.

-- After successful calls: reset the counts of consecutive 429s at these slots, and of the faults in a row of these stages there,
-- and store at which URLs the slots have answered: those of the calls, because another URL may have been registered since.
-- Writes only what changes. A stage that is held stays so: its call was open when the hold began.
create or replace function note_success(slot_names text[], stage_names text[], urls text[])
returns void language plpgsql as $$
begin
    update slots s set busy_in_a_row = 0, answered_url = done.url from unnest(slot_names, urls) as done (slot, url)
    where s.name = done.slot and (s.busy_in_a_row > 0 or s.answered_url is distinct from done.url);
    delete from stage_faults f using unnest(slot_names, stage_names) as done (slot, stage)
    where f.slot = done.slot and f.stage = done.stage and f.held_since is null;
end
$$;

-- Those of these stages that a slot does not hold. `at_slot`: null = the work needs no slot.
create or replace function not_held(at_slot text, given_stages text[]) returns text[] language plpgsql stable as $$
begin
    return array(
        select s.stage from unnest(given_stages) with ordinality as s (stage, position)
        where not exists (select from stage_faults f
            where f.slot = at_slot and f.stage = s.stage and f.held_since is not null)
        order by s.position
    );
end
$$;

-- Each change between a closed breaker and another state is kept, so that people can see how much of an hour a slot was
-- available. If a probe has shown it before, it is the same absence, which began then.
create or replace function note_breaker() returns trigger language plpgsql as $$
begin
    insert into availability (slot, is_available) select new.name, new.breaker = 'closed'
    where (select is_available from availability where slot = new.name order by since desc limit 1)
        is distinct from (new.breaker = 'closed');
    return null;
end
$$;
create or replace trigger note_breaker after update of breaker on slots for each row
when ((old.breaker = 'closed') is distinct from (new.breaker = 'closed')) execute function note_breaker();
