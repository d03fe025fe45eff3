"""Keeps hosts from storing texts, so that a test sees them at work, however quick they are."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from tests.support.acceptance import wait_for

LOCK_CLAIMS = """
    select item_id from work_items i join workers w using (worker_id)
    where i.stage = 'extract' and i.state = 'claimed' and w.host = %s for update of i skip locked
"""
GATE = 20260101  # `finish` waits while a session has this lock
# Before the function locks any row, so that the rows of all claims can be locked by the test.
ADD_GATE = f"""
    do $add$ begin
        if to_regproc('finish_behind_gate') is null then
            alter function finish rename to finish_behind_gate;
            create function finish(finishes jsonb, texts text[], finisher integer, run text, recipes jsonb)
            returns setof integer language plpgsql as $gate$ begin
                perform pg_advisory_xact_lock_shared({GATE});
                return query select finish_behind_gate(finishes, texts, finisher, run, recipes);
            end $gate$;
        end if;
    end $add$
"""


class TextGate:
    """While it is closed, no host stores a text in the ledger at `url`. The hosts wait, and do not fail."""

    def __init__(self) -> None:
        self._connection: psycopg.Connection[Any] | None = None

    def close(self, url: str) -> None:
        self._connection = _connect(url, autocommit=True)
        self._connection.execute(ADD_GATE.encode())
        self._connection.execute("select pg_advisory_lock(%s)", [GATE])

    def open(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextmanager
def documents_locked(url: str, host: str, gate: TextGate) -> Iterator[int]:
    """Lock the rows of the documents that this host has claimed, and open the gate. Yields how many there are, at least one."""
    with _connect(url) as connection:

        def lock() -> bool:
            locked = connection.execute(LOCK_CLAIMS.encode(), [host]).fetchall()
            if not locked:
                connection.rollback()
            held.append(len(locked))
            return bool(locked)

        held: list[int] = []
        wait_for(lock, f"documents held by {host}")
        gate.open()
        yield held[-1]
        with suppress(psycopg.OperationalError):  # Postgres has ended
            connection.rollback()


def _connect(url: str, *, autocommit: bool = False) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, autocommit=autocommit)
    connection.execute("set search_path to offload")
    connection.commit()
    return connection
