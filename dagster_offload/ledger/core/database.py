"""The connection to the ledger: transactions, and retries while Postgres is unavailable."""

import contextlib
import logging
import math
import re
import selectors
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from dagster_offload import timing
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core import receipts

P = ParamSpec("P")
T = TypeVar("T")
Cursor = psycopg.Cursor[dict[str, Any]]
Connection = psycopg.Connection[dict[str, Any]]

logger = logging.getLogger(__name__)

DEFAULT_SCHEMA = "offload"
CONNECT_SECONDS = 10.0
# The pool's back-off grows. Without this limit the pool would sleep for minutes after a long recovery.
RECONNECT_SECONDS = 2.0
# Errors of a lost connection. Any other error is a bug or bad data and is raised at once. The last two: Postgres ended a
# transaction because our process was frozen in it.
CONNECTION_LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)


class Ledger:
    """A ledger in one schema of a Postgres database. Cheap to open; close it or use it as a context manager."""

    def __init__(
        self, conninfo: str, schema: str = DEFAULT_SCHEMA, *, revive: Callable[[], object] = lambda: None
    ) -> None:
        """`revive` restarts an embedded Postgres and returns when it answers. `schema` must be a plain lower-case name,
        else raises `ValueError`."""
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", schema):
            raise ValueError(f"schema {schema!r}: use lower-case letters, digits and _")
        self.conninfo = conninfo
        self.schema = schema
        self._author = receipts.Author()
        self._revive = revive
        self._reviving = threading.Lock()
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            conninfo,
            min_size=0,
            max_size=16,
            max_idle=60,
            num_workers=1,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=True,
            kwargs={"row_factory": dict_row, "autocommit": True},
            configure=self._configure,
            check=_check,
        )

    def connect(self) -> Connection:
        """A direct connection outside the pool, in autocommit; the caller closes it."""
        connection = psycopg.connect(self.conninfo, autocommit=True, row_factory=dict_row)
        self._configure(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One transaction: committed at the end of the block, rolled back if the block raises."""
        with self._pool.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            yield cursor

    def run(self, step: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(cursor, ...)` in one transaction, exactly once. Retries for a minute while Postgres is unavailable or
        after a deadlock.

        If the connection is lost before Postgres confirms the commit, the step's receipt shows whether it was committed.
        Raises `LedgerUnavailable`.
        """
        in_doubt: list[T] = []  # the return value of a step whose commit was not confirmed

        def attempt() -> T:
            if in_doubt and self._is_committed():
                return in_doubt[0]
            in_doubt.clear()
            with self._pool.connection() as connection, connection.cursor() as cursor:
                cursor.execute("begin")
                returned = step(cursor, *args, **kwargs)
                in_doubt.append(returned)
                receipts.leave_and_commit(cursor, self._author)
            return returned

        return self.retry_until_available(attempt)

    def retry_until_available(self, attempt: Callable[[], T]) -> T:
        """Call `attempt()`, and retry it for a minute while Postgres is unavailable. Raises `LedgerUnavailable`.

        The minute begins with the first failure, because a process may be frozen in an attempt for longer. Time in which
        Postgres starts or recovers does not count.
        """
        deadline = math.inf
        pause = 0.1
        while True:
            try:
                return attempt()
            except psycopg.errors.DeadlockDetected:  # Postgres is available, and the other transaction proceeds
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline:
                    raise
                logger.info("deadlock between two transactions: retrying this one")
            except (*CONNECTION_LOST, PoolTimeout) as error:
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline or isinstance(error, psycopg.errors.InsufficientPrivilege):
                    raise LedgerUnavailable(f"Postgres has been unavailable for a minute: {error}") from error
                logger.warning("Postgres is unavailable (%s); retrying", type(error).__name__)
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
                revive_began = time.monotonic()
                self.revive()
                deadline += time.monotonic() - revive_began

    def revive(self) -> None:
        """Restart an embedded Postgres, one thread at a time. Ignores `LedgerUnavailable`: the caller retries."""
        with self._reviving, contextlib.suppress(LedgerUnavailable):
            self._revive()

    def _is_committed(self) -> bool:
        with self.transaction() as cursor:
            return receipts.is_left(cursor, self._author)

    def close(self) -> None:
        """Close the pool's connections."""
        self._pool.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def channel(self) -> str:
        """The LISTEN/NOTIFY channel of this ledger."""
        return f"offload_{self.schema}"

    def _configure(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("select set_config('search_path', %s, false)", [self.schema])
        connection.execute("set timezone to 'UTC'")
        # Without this, a transaction that a frozen process left open would hold its row locks forever.
        connection.execute("set idle_in_transaction_session_timeout to '60s'")


def _check(connection: Connection) -> None:
    """Raise if Postgres closed the connection since its last use. Costs a round trip only if the socket has data."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, selectors.EVENT_READ)
        if selector.select(timeout=0):
            ConnectionPool.check_connection(connection)


def fetch_one(cur: Cursor, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """The row of a query that always returns one, such as an aggregate. Raises `LookupError` if there is none."""
    row = cur.execute(query.encode(), parameters).fetchone()
    if row is None:
        raise LookupError("a row that must exist is missing from the ledger")
    return row


def notify(cur: Cursor, message: str) -> None:
    """Notify every worker of this ledger when this transaction commits."""
    cur.execute("select pg_notify('offload_' || current_schema(), %s)", [message])
