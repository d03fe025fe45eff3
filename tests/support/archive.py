"""What tests of backups and moves share."""

from collections.abc import Sequence
from pathlib import Path

from dagster_offload.ledger.archive.file import open_archive
from dagster_offload.ledger.archive.restore import restore
from dagster_offload.ledger.archive.tables import tables_of
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.postgres import DAGSTER_SCHEMA
from tests.support.engine import Engine


def add_texts(engine: Engine, keys: Sequence[str]) -> None:
    """Add documents with extracted texts. No worker is left."""
    engine.texts(*keys)
    engine.sql("update workers set ended_at = now() where ended_at is null")


def put_back(ledger: Ledger, file: Path, *, may_replace: bool = False) -> None:
    """Check and restore a backup, as the command does."""
    with open_archive(file) as archive:
        archive.check(lambda _table, _rows: None)
        restore(ledger, archive, dagster_schema=DAGSTER_SCHEMA, may_replace=may_replace)


def contents(ledger: Ledger) -> dict[str, list[str]]:
    """All rows of all tables."""
    with ledger.transaction() as cur:
        names = [table.name for table in tables_of(cur, ledger.schema)]
        return {
            name: sorted(repr(row) for row in cur.execute(f"select * from {name}".encode()).fetchall())  # noqa: S608
            for name in names
        }


def with_engine(engine: Engine, ledger: Ledger, folder: Path) -> Engine:
    """The same library, router and settings over another ledger."""
    folder.mkdir()
    other = Engine(ledger, engine.router, folder)
    other.options = engine.options
    other.pool.shutdown()
    return other
