"""Locks of Postgres that let one process of many do something. A lock is free the moment its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection


@contextmanager
def only_one(connection: Connection, kind: str, name: str) -> Iterator[bool]:
    """Hold the lock `name` of this kind in the block; yields False if another connection holds it."""
    locked = connection.execute(
        "select pg_try_advisory_lock(hashtext(%s), hashtext(%s)) as got", [kind, name]
    ).fetchone()
    got = bool(locked and locked["got"])
    try:
        yield got
    finally:
        if got and not connection.closed:
            with suppress(*CONNECTION_LOST):  # the lock is gone with the connection
                connection.execute("select pg_advisory_unlock(hashtext(%s), hashtext(%s))", [kind, name])
