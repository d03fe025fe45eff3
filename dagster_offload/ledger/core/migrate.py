"""Bring a ledger's schema up to date.

The numbered files of `ledger/migrations` create tables; each is applied once. The files of `ledger/sql` define functions,
triggers and views; all are applied again whenever any of them changes."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.reports import views
from dagster_offload.ledger.reports.views import ViewField
from dagster_offload.postgres.owners import refuse_foreign_objects
from dagster_offload.stages.graph import StageGraph


def migrate(ledger: Ledger, graph: StageGraph, fields: Mapping[str, Sequence[ViewField]] | None = None) -> None:
    """Bring the schema, the stages and their views up to date, one process at a time. Raises `LedgerUnavailable`.

    `fields` are those of the stages that get a view.
    """
    ledger.run(_migrate, ledger.schema, graph, fields or {})


def _migrate(cur: Cursor, schema: str, graph: StageGraph, fields: Mapping[str, Sequence[ViewField]]) -> None:
    cur.execute("select pg_advisory_xact_lock(hashtext('migrate ' || %s))", [schema])
    cur.execute(f"create schema if not exists {schema}".encode())
    refuse_foreign_objects(cur, schema)
    _make_steps(cur)
    _apply_sql(cur)
    stages.replace(cur, graph)
    views.replace(cur, fields)


def _make_steps(cur: Cursor) -> None:
    steps = _sql_files("migrations")
    newest = int(steps[-1].name[:4])
    cur.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row["number"] for row in cur.execute("select number from migrations")}
    if done and max(done) > newest:
        raise LedgerUnavailable(
            f"a newer dagster_offload wrote this ledger (schema step {max(done)}; this version supports up to {newest}): "
            "upgrade dagster_offload"
        )
    for step in steps:
        number = int(step.name[:4])
        if number not in done:
            cur.execute(step.read_text(encoding="utf-8").encode())
            cur.execute("insert into migrations (number, name) values (%s, %s)", [number, step.name])


def _apply_sql(cur: Cursor) -> None:
    """Apply the files only if they changed: replacing a trigger waits for every open transaction that writes."""
    files = [entry.read_text(encoding="utf-8") for entry in _sql_files("sql")]
    digest = hashlib.sha256("\0".join(files).encode()).hexdigest()
    cur.execute("select from applied_sql where digest = %s", [digest])
    if cur.rowcount:
        return
    for text in files:
        cur.execute(text.encode())
    cur.execute("delete from applied_sql")
    cur.execute("insert into applied_sql (digest) values (%s)", [digest])


def _sql_files(folder: str) -> list[Traversable]:
    entries = resources.files("dagster_offload.ledger").joinpath(folder).iterdir()
    return sorted((entry for entry in entries if entry.name.endswith(".sql")), key=lambda entry: entry.name)
