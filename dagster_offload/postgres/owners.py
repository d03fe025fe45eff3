"""Refuses objects of other roles in our schema of a shared database, because they would run with our privileges."""

from typing import Any

import psycopg

from dagster_offload.errors import LedgerUnavailable

# Superusers are trusted, because they can do everything anyway.
_FOREIGN_OBJECT = """
    with ns as (select oid, nspname, nspowner from pg_namespace where nspname = %s), objects as (
        select 1 as ordinal, 'schema' as kind, nspname::text as name, nspowner as owner from ns
        union all
        select 2, case relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence'
            when 'f' then 'foreign table' else 'table' end, relname, relowner
        from pg_class join ns on relnamespace = ns.oid where relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        union all
        select 3, 'function', p.oid::regprocedure::text, proowner from pg_proc p join ns on pronamespace = ns.oid
        union all
        select 4, 'operator', o.oid::regoperator::text, oprowner from pg_operator o join ns on oprnamespace = ns.oid
        union all
        select 5, 'type', typname, typowner from pg_type join ns on typnamespace = ns.oid where typtype in ('b', 'd', 'e', 'r')
            and typelem = 0
    )
    select kind, name, rolname as role, current_user as own_role from objects join pg_roles r on r.oid = owner
    where rolname <> current_user and not rolsuper order by ordinal, name limit 1
"""
_FOREIGN_RIGHT = """
    select coalesce(rolname, 'public') as role from pg_namespace, aclexplode(nspacl) as acl
    left join pg_roles r on r.oid = acl.grantee
    where nspname = %s and privilege_type = 'CREATE' and rolname is distinct from current_user and rolsuper is not true
    order by role limit 1
"""


def refuse_foreign_objects(cursor: psycopg.Cursor[Any], schema: str) -> None:
    """Raise `LedgerUnavailable` if another role owns the schema or an object in it, or may create objects there."""
    with cursor.connection.cursor(row_factory=psycopg.rows.tuple_row) as plain:
        foreign = plain.execute(_FOREIGN_OBJECT, [schema]).fetchone()
        if foreign is not None:
            kind, name, role, own_role = foreign
            shown = name if kind == "schema" or "." in name else f"{schema}.{name}"
            raise LedgerUnavailable(
                f"the {kind} {shown} in your Postgres belongs to the role {role} and would run with your privileges: drop it, "
                f"or review it and change its owner (alter {kind} {shown} owner to {own_role}), or set another database in "
                "OFFLOAD_POSTGRES_URL"
            )
        right = plain.execute(_FOREIGN_RIGHT, [schema]).fetchone()
    if right is not None:
        raise LedgerUnavailable(
            f"the role {right[0]} may create functions in the schema {schema} of your Postgres, and they would run with your "
            f"privileges: revoke create on schema {schema} from {right[0]}"
        )
