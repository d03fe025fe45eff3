"""Counts the connections that Dagster's storages open in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

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
