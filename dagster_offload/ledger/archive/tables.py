"""The rows of a schema as COPY text: the same in every supported PostgreSQL, one line a row, in dependency order."""

import graphlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import IsolationLevel, sql

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import CONNECTION_LOST, Cursor, Ledger

# What a migration writes by itself: our steps and functions, and Dagster's revision.
BOOKKEEPING = ("migrations", "applied_sql", "applied_views", "alembic_version")
# A ledger without a row in these has nothing to lose.
WORK = ("documents", "results", "calls")
# The text of a value must not depend on the server's settings.
_TEXT_FORMAT = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres", "bytea_output": "hex"}


@dataclass(frozen=True)
class Table:
    """A table and the columns that are copied: all but the generated ones."""

    schema: str
    name: str
    columns: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name."""
        return sql.Identifier(self.schema, self.name)

    @property
    def column_list(self) -> sql.Composed:
        """The quoted columns."""
        return sql.SQL(", ").join(map(sql.Identifier, self.columns))


@contextmanager
def connection_expected() -> Iterator[None]:
    """Turn a lost connection into `LedgerUnavailable`: a copy is not continued, but can be made again."""
    try:
        yield
    except CONNECTION_LOST as error:
        raise LedgerUnavailable(
            f"Postgres ended the connection ({type(error).__name__}): check that it runs, and run the command again"
        ) from error


@contextmanager
def snapshot(ledger: Ledger) -> Iterator[Cursor]:
    """A connection of its own in one transaction that sees the database as it is now, whatever others write meanwhile."""
    connection = ledger.connect()
    try:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with connection.transaction(), connection.cursor() as cur:
            cur.execute("set local idle_in_transaction_session_timeout to 0")  # it idles while the copy is written
            yield cur
    finally:
        connection.close()


def tables_of(cur: Cursor, schema: str) -> list[Table]:
    """The tables of a schema, a referenced table before those that refer to it. Empty if the schema does not exist."""
    cur.execute(
        "select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns "
        "from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = to_regnamespace(%s) and c.relkind in ('r', 'p') and not c.relispartition "
        "and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and c.relname <> all(%s) group by c.relname",
        [schema, list(BOOKKEEPING)],
    )
    tables = {row["name"]: Table(schema, row["name"], tuple(row["columns"])) for row in cur.fetchall()}
    order: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter(dict.fromkeys(sorted(tables), ()))
    cur.execute(
        "select r.relname as name, f.relname as referenced from pg_constraint k "
        "join pg_class r on r.oid = k.conrelid join pg_class f on f.oid = k.confrelid "
        "where k.contype = 'f' and k.connamespace = to_regnamespace(%s) and k.conrelid <> k.confrelid",
        [schema],
    )
    for row in cur.fetchall():
        if row["name"] in tables and row["referenced"] in tables:
            order.add(row["name"], row["referenced"])
    return [tables[name] for name in order.static_order()]


def sequences_of(cur: Cursor, schema: str) -> dict[str, int]:
    """The last value of every sequence that has given one. Read it after the rows: a sequence is in no snapshot."""
    cur.execute(
        "select sequencename as name, last_value as value from pg_sequences "
        "where schemaname = %s and last_value is not null",
        [schema],
    )
    return {row["name"]: row["value"] for row in cur.fetchall()}


def set_text_format(cur: Cursor) -> None:
    """Make COPY text independent of the settings of the server and the role, until the end of the transaction."""
    for name, value in _TEXT_FORMAT.items():
        cur.execute("select set_config(%s, %s, true)", [name, value])


def rows_out(cur: Cursor, table: Table) -> Generator[bytes]:
    """The rows of a table as COPY text, in blocks. Call `set_text_format` first.

    Close the generator, also after an error: until then the connection accepts no other command.
    """
    query = sql.SQL("copy (select {} from {}) to stdout").format(table.column_list, table.identifier)
    with cur.copy(query) as copy:
        for block in copy:
            yield bytes(block)


def rows_in(cur: Cursor, table: Table, blocks: Iterable[bytes]) -> None:
    """Add rows from COPY text. Call `set_text_format` first."""
    query = sql.SQL("copy {} ({}) from stdin").format(table.identifier, table.column_list)
    with cur.copy(query) as copy:
        for block in blocks:
            copy.write(block)


def remove_rows(cur: Cursor, tables: Sequence[Table]) -> None:
    """Empty these tables, which refer only to each other."""
    if tables:
        cur.execute(sql.SQL("truncate {}").format(sql.SQL(", ").join(table.identifier for table in tables)))


def set_sequences(cur: Cursor, schema: str, values: Mapping[str, int]) -> None:
    """Continue each sequence after its value. Ignores sequences that this version does not have."""
    existing = {
        row["name"]
        for row in cur.execute("select sequencename as name from pg_sequences where schemaname = %s", [schema])
    }
    for name in existing & values.keys():
        cur.execute(sql.SQL("select setval({}, %s)").format(f"{schema}.{_quoted(name)}"), [values[name]])


def has_rows(cur: Cursor, schema: str, names: Iterable[str]) -> bool:
    """Whether any of these tables exists in the schema and has a row."""
    for name in names:
        found = cur.execute("select to_regclass(%s) as oid", [f"{schema}.{name}"]).fetchone()
        if found is not None and found["oid"] is not None:
            cur.execute(sql.SQL("select from {} limit 1").format(sql.Identifier(schema, name)))
            if cur.rowcount:
                return True
    return False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
