-- The stages of this ledger. `ledger/core/stages.py` fills their table.

-- The stage that reads the file itself.
create or replace function first_stage() returns text language sql stable as $$
    select name from stages where upstream is null
$$;
