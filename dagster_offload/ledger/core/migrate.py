"""Bring a ledger's schema up to date, one numbered file of `ledger/migrations` at a time."""

from importlib import resources

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.postgres.owners import refuse_foreign_objects


def migrate(ledger: Ledger) -> None:
    """Bring the schema up to date: numbered steps, each once, one door at a time. Raises `LedgerUnavailable`."""
    ledger.run(_migrate, ledger.schema)


def _migrate(cur: Cursor, schema: str) -> None:
    folder = resources.files("dagster_offload.ledger").joinpath("migrations")
    steps = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    newest = int(steps[-1].name[:4])
    cur.execute("select pg_advisory_xact_lock(hashtext('migrate ' || %s))", [schema])
    cur.execute(f"create schema if not exists {schema}".encode())
    refuse_foreign_objects(cur, schema)
    cur.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row["number"] for row in cur.execute("select number from migrations")}
    if done and max(done) > newest:
        raise LedgerUnavailable(
            f"the ledger was written by a newer dagster_offload (schema step {max(done)}, this one knows {newest}): upgrade"
        )
    for step in steps:
        number = int(step.name[:4])
        if number not in done:
            cur.execute(step.read_text(encoding="utf-8").encode())
            cur.execute("insert into migrations (number, name) values (%s, %s)", [number, step.name])
