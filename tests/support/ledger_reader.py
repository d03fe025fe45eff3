"""Reads the ledger of a home that other processes work on."""

from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dagster_offload.postgres.embedded.server import ensure_embedded


class LedgerReader:
    """Reads the ledger of the home in this folder with SQL, without a command. Starts its Postgres if it must.

    It keeps its connection, because a test repeats most queries until something happens, and a connection costs far more than
    a query.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def __call__(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        if self._connection is not None:
            try:
                return self._connection.execute(query.encode(), parameters).fetchall()
            except psycopg.OperationalError:  # Postgres has ended since the last query
                self.close()
        self._connection = psycopg.connect(
            ensure_embedded(self._home), row_factory=dict_row, autocommit=True, application_name="test"
        )
        self._connection.execute("set search_path to offload")
        return self._connection.execute(query.encode(), parameters).fetchall()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def items(self, document: str) -> dict[str, dict[str, Any]]:
        """A document's work items by stage."""
        rows = self(
            "select i.* from work_items i join documents d using (document_id) where d.key = %s",
            document,
        )
        return {row["stage"]: row for row in rows}

    def count(self, state: str, *stages: str) -> int:
        """Work items of these stages (default: all) in a state."""
        [row] = self(
            "select count(*) as n from work_items where state = %s and (cardinality(%s::text[]) = 0 or stage = any(%s))",
            state,
            list(stages),
            list(stages),
        )
        return int(row["n"])
