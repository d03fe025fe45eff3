"""The space that a document takes in Postgres: in the ledger and in Dagster's tables, after a real scan and drain.

A second ledger is filled with SQL to ten times the size. It shows whether the ledger's part stays the same per document.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks.filling import add_done, add_history
from benchmarks.letters import letter
from benchmarks.rows import Benchmark, Row, at_most
from benchmarks.slot import slot
from benchmarks.workspace import Workspace
from dagster_offload.ledger.core.database import Cursor, Ledger

DOCUMENTS, FILLED = 10_000, 100_000
CHARACTERS = 1_500
CONCURRENCY, LATENCY = 32, 0.05

_SIZES = (
    "select n.nspname as schema, c.relname as name, pg_total_relation_size(c.oid) as bytes, s.n_live_tup as live, "
    "s.n_dead_tup as dead, s.n_tup_upd + s.n_tup_del as changed, s.autovacuum_count as vacuums "
    "from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_stat_user_tables s on s.relid = c.oid "
    "where n.nspname in ('offload', 'offload_dagster') order by 3 desc"
)


def growth(workspace: Workspace, documents: int = DOCUMENTS) -> Iterator[Row]:
    with slot(LATENCY, CONCURRENCY) as router, workspace.home(router, deep_concurrency=CONCURRENCY) as (home, ledger):
        library = home.settings.library
        assert library is not None
        for number in range(documents):
            folder = library / f"{number // 1000}"
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.txt").write_text(letter(number, CHARACTERS))
        home.run("scan", "--json")
        done = home.run("drain", "--json")["done"]
        assert done == documents, f"{done} of {documents}"
        tables = tables_of(ledger)
    what = f"of Postgres per document of {CHARACTERS:,} characters, {documents:,} documents"
    yield Row(f"bytes {what}: ledger", at_most(12_000, "B"), bytes_of(tables, "offload") / documents, tables)
    yield Row(f"bytes {what}: Dagster", at_most(12_000, "B"), bytes_of(tables, "offload_dagster") / documents, {})
    # Autovacuum looks at a table once a minute.
    worst = max(row["dead"] / row["live"] for row in tables.values() if row["live"] > 1_000)
    yield Row("dead rows / live rows in the table with the most, right after it", at_most(1.0), worst, {})


def filled(workspace: Workspace) -> Iterator[Row]:
    with workspace.home() as (home, ledger):
        add_done(ledger, home.settings, FILLED, characters=CHARACTERS)
        add_history(ledger)
        tables = tables_of(ledger)
    what = f"bytes of the ledger per document, {FILLED:,} documents, filled with SQL"
    yield Row(what, at_most(12_000, "B"), bytes_of(tables, "offload") / FILLED, tables)


def tables_of(ledger: Ledger) -> dict[str, dict[str, Any]]:
    def read(cur: Cursor) -> dict[str, dict[str, Any]]:
        return {
            f"{row['schema']}.{row['name']}": row for row in cur.execute(_SIZES).fetchall() if row["bytes"] > 100_000
        }

    return ledger.run(read)


def bytes_of(tables: dict[str, dict[str, Any]], schema: str) -> int:
    return sum(int(row["bytes"]) for row in tables.values() if row["schema"] == schema)


BENCHMARKS = (Benchmark("growth", growth), Benchmark("filled growth", filled))
