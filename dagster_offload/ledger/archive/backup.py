"""Writes a backup: one consistent view of the ledger while everything runs. Writers are never blocked."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from dagster_offload import __version__
from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import file as archive_file
from dagster_offload.ledger.archive.file import DAGSTER, LEDGER, Manifest, Part, Progress, new_archive
from dagster_offload.ledger.archive.tables import (
    connection_expected,
    rows_out,
    sequences_of,
    set_text_format,
    snapshot,
    tables_of,
)
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import current_step


def write_backup(
    ledger: Ledger,
    target: Path,
    *,
    dagster_schema: str | None = None,
    on_progress: Progress = lambda _table, _rows: None,
) -> Manifest:
    """Write the ledger, and Dagster's tables if their schema is given, to a new file. The ledger is not migrated first.

    `on_progress` may raise to cancel; then nothing is left of the file. Raises `BackupError`, `LedgerUnavailable`.
    """
    schemas: dict[Part, str] = {LEDGER: ledger.schema}
    if dagster_schema is not None:
        schemas[DAGSTER] = dagster_schema
    with new_archive(target) as archive, connection_expected(), snapshot(ledger) as cur:
        step = current_step(cur, ledger.schema)
        if step is None:
            raise BackupError("there is no ledger yet: nothing to back up")
        set_text_format(cur)
        for part, schema in schemas.items():
            for table in tables_of(cur, schema):
                with closing(rows_out(cur, table)) as blocks:
                    archive.add(part, table, blocks, on_progress)
        manifest = Manifest(
            format=archive_file.FORMAT,
            version=__version__,
            created_at=datetime.now(UTC),
            step=step,
            tables=tuple(archive.tables),
            sequences={part: sequences_of(cur, schema) for part, schema in schemas.items()},
        )
        archive.finish(manifest)
    return manifest


def cancelled_by(is_cancelled: Callable[[], bool]) -> Progress:
    """A progress function that ends a backup when `is_cancelled()` becomes true."""

    def check(_table: str, _rows: int) -> None:
        if is_cancelled():
            raise BackupError("the backup was cancelled")

    return check
