-- The stages of this ledger. `ledger/core/stages.py` fills their table.

-- The stage that reads the file itself. It is written in PL/pgSQL because an SQL function would be planned at each call.
create or replace function first_stage() returns text language plpgsql stable as $$
begin
    return (select name from stages where upstream is null);
end
$$;
