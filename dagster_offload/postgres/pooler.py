"""Detects a transaction-mode or statement-mode pooler in front of Postgres. It would lose our session locks and notifications."""

import select
import time
from contextlib import ExitStack

import psycopg
from psycopg import pq

from dagster_offload.errors import LedgerUnavailable

SUSPICIOUS_PROBES = 24  # more than a pool usually holds (PgBouncer: default_pool_size 20)
ANSWER_SECONDS = 5.0

_REFUSAL = (
    "OFFLOAD_POSTGRES_URL: this database is behind a pooler in {mode} mode, which would lose session locks and"
    " notifications: connect to Postgres directly, or use a session-mode pool"
)


def refuse_pooler(conn: psycopg.Connection) -> None:
    """Raise `LedgerUnavailable` if `conn` (autocommit) does not keep its own backend.

    Such a pooler gives `conn`'s backend to another client as soon as `conn` is idle. The check opens other connections
    and holds a transaction in each: one of them gets `conn`'s backend, or `conn` moves to another one. One connection
    is always tried. More are tried if the pid reported at login (the pooler's) is not the backend's, because several
    idle backends may be handed out first.
    """
    own = _backend(conn, time.monotonic() + ANSWER_SECONDS)
    if own is None:
        raise LedgerUnavailable(
            f"OFFLOAD_POSTGRES_URL: the database does not answer a query within {ANSWER_SECONDS:g} s: check its load and locks"
        )
    probes = 1 if own == conn.info.backend_pid else SUSPICIOUS_PROBES
    with ExitStack() as held:
        for _ in range(probes):
            other = psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True)
            held.callback(other.close)
            deadline = time.monotonic() + ANSWER_SECONDS
            if not _begin(other, deadline):
                break  # no backend is left for it: ours was not given away, or another client has it now
            if _backend(other, deadline) == own:
                raise LedgerUnavailable(_REFUSAL.format(mode="transaction"))
        if _backend(conn, time.monotonic() + ANSWER_SECONDS) != own:
            raise LedgerUnavailable(_REFUSAL.format(mode="transaction"))


def _begin(conn: psycopg.Connection, deadline: float) -> bool:
    try:
        return _query(conn, b"begin", deadline) is not None
    except psycopg.OperationalError as error:
        if "statement pooling" in str(error):  # PgBouncer's answer to `begin` in that mode
            raise LedgerUnavailable(_REFUSAL.format(mode="statement")) from None
        raise


def _backend(conn: psycopg.Connection, deadline: float) -> int | None:
    result = _query(conn, b"select pg_backend_pid()", deadline)
    value = None if result is None else result.get_value(0, 0)
    return None if value is None else int(value)


def _query(conn: psycopg.Connection, query: bytes, deadline: float) -> pq.abc.PGresult | None:
    """Run a query with our own time limit, because a pooler may queue it for minutes. Returns None without an answer."""
    pgconn = conn.pgconn
    pgconn.send_query(query)
    results: list[pq.abc.PGresult] = []
    while True:
        pgconn.flush()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return _checked(results[-1])
            results.append(result)
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0 or not select.select([pgconn.socket], [], [], seconds_left)[0]:
            return None
        pgconn.consume_input()


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return result
    raise psycopg.OperationalError(result.get_error_message())
