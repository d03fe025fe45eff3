"""Bring a ledger's schema up to date.

The numbered files of `ledger/migrations` create tables; each is applied once. The files of `ledger/sql` define functions,
triggers and views; all are applied again whenever any of them changes."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable

from psycopg.errors import LockNotAvailable

from dagster_offload.errors import LedgerBusy, LedgerUnavailable, NoLedger
from dagster_offload.ledger.core import identity, stages, workers
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.pipelines import has_other_stages
from dagster_offload.ledger.partitions import assigning
from dagster_offload.ledger.reports import views
from dagster_offload.ledger.reports.views import ViewField
from dagster_offload.postgres.owners import refuse_foreign_objects
from dagster_offload.stages.graph import StageGraph
from dagster_offload.stages.pipeline import Pipeline

logger = logging.getLogger(__name__)

# A command that takes the ledger as it is waits at most this long for a process that migrates it.
LONGEST_MIGRATION_SECONDS = 60.0
QUIET_SECONDS = 2.0  # a shorter wait is not worth a line


def migrate(
    ledger: Ledger,
    graph: StageGraph,
    fields: Mapping[str, Sequence[ViewField]] | None = None,
    here: Pipeline | None = None,
    *,
    back_up: Callable[[Cursor], None] = lambda _cur: None,
) -> bool:
    """Bring the schema, the stages and their views up to date, one process at a time. Raises `LedgerUnavailable`.

    `fields` are those of the stages that get a view. `here` is the pipeline that `graph` and `fields` belong to. If a running
    `up` works with another one, its stages and views stay as they are. Returns whether they are those of `here`.
    `back_up` is called before a ledger of an older version is changed, while all others wait. If it raises, nothing changes.
    """
    return ledger.run(_migrate, ledger.schema, graph, fields or {}, here, back_up)


def _migrate(
    cur: Cursor,
    schema: str,
    graph: StageGraph,
    fields: Mapping[str, Sequence[ViewField]],
    here: Pipeline | None,
    back_up: Callable[[Cursor], None],
) -> bool:
    begin(cur, schema)
    if is_older(cur, schema):
        if identity.is_stored(cur):
            identity.refuse_moved(cur)  # before the backup: a copy that was moved is never migrated
        _refuse_under_up(cur, schema)
        cur.execute("set local idle_in_transaction_session_timeout to 0")  # a backup may take longer than that
        back_up(cur)
    make_steps(cur)
    _apply_sql(cur)
    is_in_force = here is None or not has_other_stages(cur, here)
    if is_in_force:
        stages.replace(cur, graph)
        views.replace(cur, fields)
    identity.refuse_moved(cur)
    return is_in_force


def refuse_unusable(cur: Cursor, schema: str) -> None:
    """Raise `LedgerUnavailable` unless this version can use the ledger as it is. Changes nothing.

    Functions and views of another version are accepted: most of them are the same. See `refuse_other_sql`.
    """
    step = existing_step(cur, schema)
    if is_older(cur, schema):
        _wait_for_migration(cur, schema)  # an `up` that starts may be at work
        step = existing_step(cur, schema)
    if step > newest_step():
        raise _newer(step)
    if identity.is_stored(cur):
        identity.refuse_moved(cur)
    if is_older(cur, schema):
        _refuse_under_up(cur, schema)
        raise LedgerUnavailable(
            f"an older dagster_offload wrote this ledger (schema step {step}; this version has {newest_step()}), and this "
            "command does not migrate it. Nothing was changed: start `dagster-offload up` with this version, which makes a "
            "backup and then brings the ledger up to date"
        )


def existing_step(cur: Cursor, schema: str) -> int:
    """The schema step of the ledger. Waits for an `up` that makes one. Raises `NoLedger` if there is none. Changes nothing."""
    refuse_foreign_objects(cur, schema)
    if current_step(cur, schema) is None:
        _wait_for_migration(cur, schema)
    if (step := current_step(cur, schema)) is None:
        if others := _other_ledgers(cur):
            raise NoLedger(
                f"the ledgers in this Postgres are those of components of Dagster projects: {', '.join(others)}. Commands do not "
                f"read them: use the project's UI, or SQL such as `select * from {others[0]}.records`. For a ledger of "
                "commands, correct OFFLOAD_HOME or OFFLOAD_POSTGRES_URL"
            )
        raise NoLedger(
            "there is no ledger in this Postgres: start `dagster-offload up`, or correct OFFLOAD_POSTGRES_URL or OFFLOAD_HOME"
        )
    return step


def _other_ledgers(cur: Cursor) -> list[str]:
    """The schemas of ledgers that are here."""
    cur.execute(
        "select schemaname from pg_tables where tablename = 'work_items' and schemaname like %s order by 1",
        ["offload\\_%"],
    )
    return [row["schemaname"] for row in cur.fetchall()]


def _wait_for_migration(cur: Cursor, schema: str) -> None:
    """Return when no process migrates this schema. Says that it waits for one. Raises `LedgerBusy` if that takes a minute."""
    if _is_locked_within(QUIET_SECONDS, cur, schema):
        return
    logger.warning("another process is preparing this ledger; waiting for it, for a minute at most")
    if not _is_locked_within(LONGEST_MIGRATION_SECONDS, cur, schema):
        raise LedgerBusy("another process is preparing this ledger: run the command again when it has ended")


def _is_locked_within(seconds: float, cur: Cursor, schema: str) -> bool:
    try:
        with cur.connection.transaction():  # a savepoint: after a failure the outer transaction goes on
            cur.execute(f"set local lock_timeout = {round(seconds * 1000)}".encode())
            _lock(cur, schema)
    except LockNotAvailable:
        return False
    return True


def refuse_other_sql(cur: Cursor) -> None:
    """Raise `LedgerUnavailable` if the functions and views of the ledger are those of another version, older or newer."""
    if _has_other_sql(cur):
        raise LedgerUnavailable(
            "the functions and views of this ledger are those of another version of dagster_offload, and this command cannot "
            "use them. Nothing was changed: start `dagster-offload up` with the version to use"
        )


def _has_other_sql(cur: Cursor) -> bool:
    cur.execute("select from applied_sql where digest = %s", [_digest(_sql_texts())])
    return not cur.rowcount


def _refuse_under_up(cur: Cursor, schema: str) -> None:
    """Raise `LedgerUnavailable` while an `up` works with this older ledger: its version does not know the new tables."""
    if (found := workers.connected(cur, schema, workers.UP)) is not None:
        host, pid = found
        raise LedgerUnavailable(
            f"this version changes the ledger (schema step {current_step(cur, schema)} to {newest_step()}), and the `up` of an "
            f"older version works with it (process {pid} on {host}). Nothing was changed: stop that `up` first, or install the "
            "version that it has"
        )


def begin(cur: Cursor, schema: str) -> None:
    """Let no other process migrate this schema before the transaction ends, and create the schema if it is missing."""
    _lock(cur, schema)
    cur.execute(f"create schema if not exists {schema}".encode())
    refuse_foreign_objects(cur, schema)


def _lock(cur: Cursor, schema: str) -> None:
    cur.execute("select pg_advisory_xact_lock(hashtext('migrate ' || %s))", [schema])


def newest_step() -> int:
    """The number of the last step that this version has."""
    return _number(_sql_files("migrations")[-1])


def current_step(cur: Cursor, schema: str) -> int | None:
    """The last step that the ledger in this schema has gone through; None if the schema has no ledger."""
    found = cur.execute("select to_regclass(%s) as name", [f"{schema}.migrations"]).fetchone()
    if found is None or found["name"] is None:
        return None
    row = cur.execute(f"select max(number) as step from {schema}.migrations".encode()).fetchone()
    return None if row is None else row["step"]


def is_older(cur: Cursor, schema: str) -> bool:
    """Whether the schema has a ledger that this version would change by a numbered step."""
    step = current_step(cur, schema)
    if step is None or step > newest_step():
        return False
    done = {row["number"] for row in cur.execute(f"select number from {schema}.migrations".encode())}
    return not {_number(file) for file in _sql_files("migrations")} <= done


def make_steps(cur: Cursor, up_to: int | None = None) -> None:
    """Apply the numbered steps that are missing, to the last one or up to a number. Raises `LedgerUnavailable`."""
    steps = _sql_files("migrations")
    newest = _number(steps[-1])
    cur.execute(
        "create table if not exists migrations "
        "(number integer primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row["number"] for row in cur.execute("select number from migrations")}
    if done and max(done) > newest:
        raise _newer(max(done))
    for step in steps:
        number = _number(step)
        if number not in done and number <= (newest if up_to is None else up_to):
            cur.execute(step.read_text(encoding="utf-8").encode())
            cur.execute("insert into migrations (number, name) values (%s, %s)", [number, step.name])


def _newer(step: int) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"a newer dagster_offload wrote this ledger (schema step {step}; this version supports up to {newest_step()}): "
        "upgrade dagster_offload"
    )


def complete(cur: Cursor, graph: StageGraph) -> None:
    """Bring functions, views and stages up to date, after the last numbered step."""
    _apply_sql(cur)
    assigning.follow_changes(cur)
    stages.replace(cur, graph)


def _number(step: Traversable) -> int:
    return int(step.name[:4])


def _apply_sql(cur: Cursor) -> None:
    """Apply the files only if they changed: replacing a trigger waits for every open transaction that writes."""
    if not _has_other_sql(cur):
        return
    texts = _sql_texts()
    for text in texts:
        cur.execute(text.encode())
    cur.execute("delete from applied_sql")
    cur.execute("insert into applied_sql (digest) values (%s)", [_digest(texts)])


def _sql_texts() -> list[str]:
    return [entry.read_text(encoding="utf-8") for entry in _sql_files("sql")]


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _sql_files(folder: str) -> list[Traversable]:
    entries = resources.files("dagster_offload.ledger").joinpath(folder).iterdir()
    return sorted((entry for entry in entries if entry.name.endswith(".sql")), key=lambda entry: entry.name)
