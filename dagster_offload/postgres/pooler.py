"""Is a transaction-mode pooler between us and Postgres? It would lose our session locks and notifications."""

import select
import time
from contextlib import ExitStack

import psycopg
from psycopg import pq

from dagster_offload.errors import LedgerUnavailable

SUSPICIOUS_PROBES = 24  # more than a pool usually holds (PgBouncer: default_pool_size 20)
ANSWER_SECONDS = 5.0

_REFUSAL = (
    "OFFLOAD_POSTGRES_URL: a pooler in {mode} mode stands before this database and would lose our session locks and"
    " notifications: name Postgres itself, or a session-mode pool"
)


def refuse_pooler(conn: psycopg.Connection) -> None:
    """Raise `LedgerUnavailable` when `conn` (autocommit) does not keep one backend of its own.

    Such a pooler lends `conn`'s backend to somebody else as soon as `conn` is idle. So other connections open
    transactions and hold them: one is given that very backend, or `conn` finds itself on another. One such connection
    is tried always; more when the pid named at login (the pooler's) is not that of the backend, as several idle
    backends may have to be used up first.
    """
    own = _backend(conn, time.monotonic() + ANSWER_SECONDS)
    if own is None:
        raise LedgerUnavailable("OFFLOAD_POSTGRES_URL: the database does not answer a query in time")
    probes = 1 if own == conn.info.backend_pid else SUSPICIOUS_PROBES
    with ExitStack() as held:
        for _ in range(probes):
            other = psycopg.connect(conn.info.dsn, password=conn.info.password, autocommit=True)
            held.callback(other.close)
            deadline = time.monotonic() + ANSWER_SECONDS
            if not _begin(other, deadline):
                break  # no backend left for it: then ours was not lent out, or somebody else has it now
            if _backend(other, deadline) == own:
                raise LedgerUnavailable(_REFUSAL.format(mode="transaction"))
        if _backend(conn, time.monotonic() + ANSWER_SECONDS) != own:
            raise LedgerUnavailable(_REFUSAL.format(mode="transaction"))


def _begin(conn: psycopg.Connection, deadline: float) -> bool:
    try:
        return _ask(conn, b"begin", deadline) is not None
    except psycopg.OperationalError as error:
        if "statement pooling" in str(error):  # PgBouncer's answer to `begin` in that mode
            raise LedgerUnavailable(_REFUSAL.format(mode="statement")) from None
        raise


def _backend(conn: psycopg.Connection, deadline: float) -> int | None:
    result = _ask(conn, b"select pg_backend_pid()", deadline)
    value = None if result is None else result.get_value(0, 0)
    return None if value is None else int(value)


def _ask(conn: psycopg.Connection, query: bytes, deadline: float) -> pq.abc.PGresult | None:
    """Run a query with a time limit of our own: a pooler lets one wait for a backend for minutes. None = no answer."""
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
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pgconn.socket], [], [], left)[0]:
            return None
        pgconn.consume_input()


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        return result
    raise psycopg.OperationalError(result.get_error_message())
