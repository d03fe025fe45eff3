"""Puts copied rows into a ledger in one transaction: all of them, or nothing changes.

The tables come from our own numbered steps, up to the step of the copy, and the later steps follow. So a copy is data
only: nothing in a file that somebody else may have written is run.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from uuid import UUID

import psycopg

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive import tables
from dagster_offload.ledger.archive.file import DAGSTER, LEDGER, Archive, Part, Progress, TableEntry
from dagster_offload.ledger.archive.tables import Table
from dagster_offload.ledger.core import identity, migrate, stages, workers
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.events import outbox

_DAGSTER_WORK = ("runs", "event_logs")


@dataclass(frozen=True)
class Target:
    """What is in the database before a restore or a move. `moved_id` is the identifier of a copy marked as moved."""

    step: int | None
    has_work: bool
    has_dagster_work: bool
    live_workers: tuple[str, ...]
    moved_id: UUID | None = None


@dataclass(frozen=True)
class Incoming:
    """The copy that is to be put in. `from_id` is the identifier of the ledger that moves; None for a backup."""

    step: int
    has_dagster: bool
    from_id: UUID | None = None


def why_refused(target: Target, incoming: Incoming, *, newest_step: int, may_replace: bool) -> str | None:
    """Why the copy must not be put in; None if it may."""
    if (reason := why_too_new(incoming.step, newest_step)) is not None:
        return reason
    if target.step is not None and target.step > newest_step:
        return f"a newer dagster_offload wrote the ledger that is there (schema step {target.step}): upgrade dagster_offload"
    if target.live_workers:
        return f"{', '.join(target.live_workers)} uses the ledger that is there: run `dagster-offload stop` on each host first"
    is_old_copy = incoming.from_id is not None and target.moved_id == incoming.from_id
    has_work = target.has_work or (incoming.has_dagster and target.has_dagster_work)
    if has_work and not may_replace and not is_old_copy:
        return "the ledger that is there has data: use an empty OFFLOAD_HOME or database, or add --replace to delete that data"
    return None


def why_too_new(step: int, newest_step: int) -> str | None:
    """Why this version cannot read a copy at this schema step; None if it can."""
    if step <= newest_step:
        return None
    return (
        f"it was made by a newer dagster_offload (schema step {step}; this version supports up to {newest_step}): "
        "upgrade dagster_offload"
    )


def why_unfit(cur: Cursor, schema: str, dagster_schema: str, incoming: Incoming, *, may_replace: bool) -> str | None:
    """Why the copy must not be put into the database of `cur`; None if it may."""
    target = _look_at(cur, schema, dagster_schema)
    return why_refused(target, incoming, newest_step=migrate.newest_step(), may_replace=may_replace)


def _look_at(cur: Cursor, schema: str, dagster_schema: str) -> Target:
    """Read the facts about the database that `why_refused` needs."""
    step = migrate.current_step(cur, schema)
    live: Sequence[workers.WorkerRow] = ()
    own = None
    if step is not None:
        live = workers.live_workers(cur, schema)
        if identity.is_stored(cur):
            own = identity.read(cur)
    return Target(
        step,
        tables.has_rows(cur, schema, tables.WORK),
        tables.has_rows(cur, dagster_schema, _DAGSTER_WORK),
        tuple(f"{worker.kind} (process {worker.pid} on {worker.host})" for worker in live),
        own.ledger_id if own is not None and own.moved_to is not None else None,
    )


def put_in(
    cur: Cursor,
    schemas: Mapping[Part, str],
    incoming: Incoming,
    rows: Iterable[tuple[Part, Table, Generator[bytes]]],
    sequences: Mapping[Part, Mapping[str, int]],
) -> None:
    """Replace the ledger, and Dagster's rows, by copied rows. `why_unfit` has allowed it. Raises `BackupError`.

    The stages are those of the copy: the pipeline file may not be there yet. What opens the ledger next brings those of the file.
    Dagster's tables must exist if the copy has rows for them.
    """
    schema = schemas[LEDGER]
    migrate.begin(cur, schema)
    cur.execute(f"drop schema {schema} cascade; create schema {schema}".encode())
    migrate.make_steps(cur, up_to=incoming.step)
    existing = {part: {table.name: table for table in tables.tables_of(cur, name)} for part, name in schemas.items()}
    if incoming.has_dagster and not existing[DAGSTER]:
        raise BackupError("Dagster's tables are missing in the database")
    tables.remove_rows(cur, list(existing[LEDGER].values()))  # what the steps themselves insert
    if incoming.has_dagster:
        tables.remove_rows(cur, list(existing[DAGSTER].values()))
    tables.set_text_format(cur)
    for part, table, blocks in rows:
        target = existing[part].get(table.name)
        if target is None or not set(table.columns) <= set(target.columns):
            raise BackupError(f"it has columns of {part}.{table.name} that this version does not know: {_advice(part)}")
        with closing(blocks):
            tables.rows_in(cur, Table(target.schema, table.name, table.columns), blocks)
    for part, values in sequences.items():
        tables.set_sequences(cur, schemas[part], values)
    migrate.make_steps(cur)
    migrate.complete(cur, stages.graph(cur))
    identity.unmark_moved(cur)  # a backup may be of a copy that was moved
    workers.deregister_all(cur, "the ledger was copied from another place")
    if not incoming.has_dagster:
        outbox.report_again(cur)


def _advice(part: Part) -> str:
    package = "dagster and dagster-postgres" if part == DAGSTER else "dagster_offload"
    return f"install the version of {package} that wrote it, or a newer one"


def restore(
    ledger: Ledger,
    archive: Archive,
    *,
    dagster_schema: str,
    may_replace: bool = False,
    on_progress: Progress = lambda _table, _rows: None,
) -> None:
    """Restore a checked archive into the database of `ledger`, in one transaction. Raises `BackupError`, `LedgerUnavailable`.

    Dagster's tables must exist if the archive has rows for them. Without such rows, every result is reported to Dagster
    again. `archive.check` comes first: this function finds a damaged file only when it reaches the damage.
    """
    manifest = archive.manifest
    incoming = Incoming(manifest.step, manifest.has_dagster)
    with tables.connection_expected(), ledger.transaction() as cur:
        if reason := why_unfit(cur, ledger.schema, dagster_schema, incoming, may_replace=may_replace):
            raise BackupError(f"cannot restore {archive.file}: {reason}")
        schemas: dict[Part, str] = {LEDGER: ledger.schema}
        if manifest.has_dagster:
            schemas[DAGSTER] = dagster_schema
        rows = ((entry.part, _table(entry, schemas), _shown(archive, entry, on_progress)) for entry in manifest.tables)
        try:
            put_in(cur, schemas, incoming, rows, manifest.sequences)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            reason = str(error).splitlines()[0]
            raise BackupError(f"{archive.file} does not fit its own tables: {reason}. Use another backup") from None


def _table(entry: TableEntry, schemas: Mapping[Part, str]) -> Table:
    return Table(schemas[entry.part], entry.name, entry.columns)


def _shown(archive: Archive, entry: TableEntry, on_progress: Progress) -> Generator[bytes]:
    rows = 0
    for block in archive.blocks(entry):
        rows += block.count(b"\n")
        on_progress(f"{entry.part}.{entry.name}", rows)
        yield block
