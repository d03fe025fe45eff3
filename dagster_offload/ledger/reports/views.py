"""One view a stage with typed columns, for people and their tools: `record_payment (document, amount numeric, due date)`.

The views belong to this program: they are made anew when a stage's fields change.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from dagster_offload.ledger.core.database import Cursor

PREFIX = "record_"
FORM = 4  # increase when `_definition` changes: the views are then made anew

# The type of a column, and how it is read from a record. A value of another form (of an older prompt) is null.
_NUMBER = "case when jsonb_typeof(v.value -> {name}) = 'number' then (v.value -> {name})::numeric end"
_TEXT = "v.value ->> {name}"
_READ = {
    "string": _TEXT,
    "number": _NUMBER,
    "integer": _NUMBER,
    "boolean": "case when jsonb_typeof(v.value -> {name}) = 'boolean' then (v.value -> {name})::boolean end",
    "date": "date_or_null(v.value ->> {name})",
    "datetime": "time_or_null(v.value ->> {name})",
    "json": "v.value -> {name}",
}


@dataclass(frozen=True)
class ViewField:
    """A column of a view. `type` is string, number, integer, boolean, date, datetime or json."""

    name: str
    type: str


def replace(cur: Cursor, stages: Mapping[str, Sequence[ViewField]]) -> None:
    """Make the views of these stages, and remove those of stages that are gone. Writes nothing if nothing changed.

    A view that somebody's own view depends on is kept as it is until that one is dropped.
    """
    described = (FORM, sorted((name, tuple(fields)) for name, fields in stages.items()))
    digest = hashlib.sha256(repr(described).encode()).hexdigest()
    cur.execute("select from applied_views where digest = %s", [digest])
    if cur.rowcount:
        return
    cur.execute(
        "select viewname from pg_views where schemaname = current_schema() and starts_with(viewname, %s)", [PREFIX]
    )
    wanted = {PREFIX + name: (name, fields) for name, fields in stages.items()}
    is_complete = True
    for view in {row["viewname"] for row in cur.fetchall()} | wanted.keys():
        try:
            with cur.connection.transaction():
                cur.execute(sql.SQL("drop view if exists {}").format(sql.Identifier(view)))
                if view in wanted:
                    cur.execute(_definition(view, *wanted[view]))
        except psycopg.errors.DependentObjectsStillExist:
            is_complete = False
    cur.execute("delete from applied_views")
    if is_complete:
        cur.execute("insert into applied_views (digest) values (%s)", [digest])


def _definition(view: str, stage: str, fields: Sequence[ViewField]) -> sql.Composed:
    columns = [
        sql.SQL(_READ[field.type]).format(name=sql.Literal(field.name)) + sql.SQL(" as ") + sql.Identifier(field.name)
        for field in fields
    ]
    return sql.SQL(
        # No field has the name of one of these columns: `stage_spec.stage.RESERVED_FIELDS`.
        "create view {view} as select d.key as document, {columns}, i.outcome as outcome, "
        "r.served_model as model, r.created_at as at, "
        "case when known.are_corrected then corrected_fields(d.document_id, i.stage) end as corrected "
        "from documents d join work_items i using (document_id) join results r using (result_id) "
        "cross join (select exists (select from corrections) as are_corrected) known "
        "cross join lateral (select case when known.are_corrected and i.outcome <> 'not_applicable' "
        "  then corrected(r.value, d.digest, i.stage) else r.value end as value) v "
        "where d.is_present and i.stage = {stage} and i.state = 'done'"
    ).format(
        view=sql.Identifier(view),
        columns=sql.SQL(", ").join(columns),
        stage=sql.Literal(stage),
    )
