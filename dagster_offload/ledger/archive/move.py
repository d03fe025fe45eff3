"""Moves a ledger from one Postgres to another. The old copy stays and is marked, so that both are never used at once.

Both sides are one transaction each. The new copy is committed first: if the process dies between the two commits, the old
ledger is still the one in use, and the setting has not been changed yet.
"""

from collections.abc import Generator
from contextlib import closing

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import tables
from dagster_offload.ledger.archive.file import DAGSTER, LEDGER, Counted, Part, Progress
from dagster_offload.ledger.archive.restore import Incoming, put_in, why_unfit
from dagster_offload.ledger.archive.tables import Table
from dagster_offload.ledger.core import identity, migrate, workers
from dagster_offload.ledger.core.database import Cursor, Ledger


def move(
    source: Ledger,
    target: Ledger,
    *,
    place: str,
    dagster_schema: str,
    may_replace: bool = False,
    on_progress: Progress = lambda _table, _rows: None,
) -> dict[str, int]:
    """Copy the ledger and Dagster's storages from `source` to `target`, and mark `source` as moved to `place`.

    `source` is migrated; Dagster's tables exist at `target`. Returns the rows of each table. Raises `BackupError` if a
    worker runs, if the target is the same database, or if it has data.
    """
    source.run(workers.live_workers, source.schema)  # reclaims the dead ones
    counts: dict[str, int] = {}
    with tables.connection_expected(), tables.snapshot(source) as read:
        with target.transaction() as written:
            _lock(read, written, source.schema)
            own = identity.read(read)
            schemas: dict[Part, str] = {LEDGER: source.schema, DAGSTER: dagster_schema}
            found = {part: tables.tables_of(read, schema) for part, schema in schemas.items()}
            incoming = Incoming(migrate.newest_step(), bool(found[DAGSTER]), None if own is None else own.ledger_id)
            if reason := why_unfit(written, target.schema, dagster_schema, incoming, may_replace=may_replace):
                raise BackupError(f"cannot move the ledger: {reason}")
            tables.set_text_format(read)
            rows = (
                (part, table, _counted(part, table, read, counts, on_progress))
                for part in found
                for table in found[part]
            )
            sequences = {part: tables.sequences_of(read, schema) for part, schema in schemas.items()}
            put_in(written, {**schemas, LEDGER: target.schema}, incoming, rows, sequences)
        identity.mark_moved(read, place)
    return counts


def _lock(read: Cursor, written: Cursor, schema: str) -> None:
    """Keep writers out of the source, and make sure that the target is another database."""
    # LOCK takes no snapshot: what the transaction sees begins after it.
    read.execute("lock table workers, slots, documents, work_items, results in share row exclusive mode")
    read.execute("select kind, pid, host from workers where ended_at is null order by worker_id limit 1")
    if (worker := read.fetchone()) is not None:
        raise BackupError(
            f"cannot move the ledger: {worker['kind']} (process {worker['pid']} on {worker['host']}) uses it: "
            "run `dagster-offload stop` on each host first"
        )
    read.execute("select pg_advisory_xact_lock(hashtext('move'), hashtext(%s))", [schema])
    written.execute("select pg_try_advisory_xact_lock(hashtext('move'), hashtext(%s)) as is_other", [schema])
    if written.fetchone() != {"is_other": True}:
        raise BackupError("cannot move the ledger: it is in that database already")


def _counted(part: Part, table: Table, read: Cursor, counts: dict[str, int], on_progress: Progress) -> Generator[bytes]:
    with closing(tables.rows_out(read, table)) as blocks:
        counted = Counted(blocks)
        for block in counted:
            yield block
            on_progress(f"{part}.{table.name}", counted.rows)
    counts[f"{part}.{table.name}"] = counted.rows
