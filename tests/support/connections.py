"""What this process does with Postgres: the connections that it opens, and the statements of Dagster's storages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import psycopg
import sqlalchemy


@contextmanager
def counting_connections() -> Iterator[list[object]]:
    """A list that grows by one with each connection that SQLAlchemy opens during the block."""
    opened: list[object] = []

    def count(connection: object, _record: object) -> None:
        opened.append(connection)

    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "connect", count)
    try:
        yield opened
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "connect", count)


@contextmanager
def counting_ledger_connections() -> Iterator[list[object]]:
    """A list that grows by one with each connection to the ledger that is opened during the block."""
    opened: list[object] = []
    connect = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]

    def count(cls: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(arguments)
        return connect(cls, *arguments, **options)

    with (
        patch.object(psycopg.Connection, "connect", classmethod(count)),
        patch.object(
            psycopg, "connect", lambda *arguments, **options: count(psycopg.Connection, *arguments, **options)
        ),
    ):
        yield opened


@contextmanager
def recording_statements() -> Iterator[list[str]]:
    """A list of the statements that SQLAlchemy sends during the block."""
    statements: list[str] = []

    def record(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        statements.append(statement)

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "before_cursor_execute", record)
