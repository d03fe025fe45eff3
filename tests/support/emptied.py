"""Empties the ledger of a test."""

from dagster_offload.ledger.core.database import Ledger

# `truncate` makes new files for each table and index, which takes twenty times as long.
_EMPTY = """
    do $$ declare each record; begin
        set local session_replication_role = replica; -- no trigger acts, and no order of the tables matters
        for each in select quote_ident(tablename) as name from pg_tables where schemaname = current_schema()
            and tablename not in ('migrations', 'applied_sql', 'stages') loop
            execute 'delete from ' || each.name;
        end loop;
        perform setval(oid::regclass, 1, false) from pg_class
        where relkind = 'S' and relnamespace = current_schema()::regnamespace;
    end $$
"""


def empty(ledger: Ledger) -> None:
    """Remove all rows but those of the schema itself. Numbers begin at 1 again. Needs a superuser."""
    with ledger.transaction() as cur:
        cur.execute(_EMPTY)
