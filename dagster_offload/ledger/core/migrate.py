"""Bring a ledger's schema up to date.

The numbered files of `ledger/migrations` create tables; each is applied once. The files of `ledger/sql` define functions,
triggers and views; all are applied again whenever any of them changes."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.postgres.owners import refuse_foreign_objects
from dagster_offload.stages.graph import StageNode


@dataclass(frozen=True)
class Upgrade:
    """The newest step that an existing ledger has, and the newest step of this version, which is higher."""

    from_step: int
    to_step: int


BeforeUpgrade = Callable[[Upgrade], None]


def migrate(ledger: Ledger, graph: Sequence[StageNode], before_upgrade: BeforeUpgrade = lambda _: None) -> None:
    """Bring the schema and the stages up to date, one process at a time. Raises `LedgerUnavailable`.

    `before_upgrade` is called before the tables of an existing ledger change, and not for a new ledger. If it raises, the
    ledger stays as it is. Two processes that start at the same moment may both call it.
    """
    upgrade = ledger.run(_migrate, ledger.schema, graph, is_prepared=False)
    if upgrade is not None:
        before_upgrade(upgrade)
        ledger.run(_migrate, ledger.schema, graph, is_prepared=True)


def _migrate(cur: Cursor, schema: str, graph: Sequence[StageNode], *, is_prepared: bool) -> Upgrade | None:
    """Migrate. Unless `is_prepared`, an older ledger is left as it is, and its upgrade is returned."""
    cur.execute("select pg_advisory_xact_lock(hashtext('migrate ' || %s))", [schema])
    cur.execute(f"create schema if not exists {schema}".encode())
    refuse_foreign_objects(cur, schema)
    cur.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row["number"] for row in cur.execute("select number from migrations")}
    missing = _missing_steps(done)
    if done and missing and not is_prepared:
        return Upgrade(max(done), max(missing))
    for number, step in sorted(missing.items()):
        cur.execute(step.read_text(encoding="utf-8").encode())
        cur.execute("insert into migrations (number, name) values (%s, %s)", [number, step.name])
    _apply_sql(cur)
    stages.replace(cur, graph)
    return None


def _missing_steps(done: Collection[int]) -> dict[int, Traversable]:
    """The steps that are not done, by number. Raises `LedgerUnavailable` for a ledger of a newer version."""
    steps = {int(step.name[:4]): step for step in _sql_files("migrations")}
    if done and max(done) > max(steps):
        raise LedgerUnavailable(
            f"a newer dagster_offload wrote this ledger (schema step {max(done)}; this version supports up to {max(steps)}): "
            "upgrade dagster_offload"
        )
    return {number: step for number, step in steps.items() if number not in done}


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
