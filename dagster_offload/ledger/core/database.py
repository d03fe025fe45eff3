"""The durable record of every work item; the only SQL in the project.

Functions of this package take a cursor and are one step of a transaction; `Ledger.run` gives them one:
`ledger.run(claims.release, worker_id, ...)`. Names of tables are resolved by the search path, so several ledgers can live
in one database under different schemas.
"""

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
# The pool tries ever more rarely: without a bound it would sleep on for minutes after a long recovery.
RECONNECT_SECONDS = 2.0
# What a lost connection arrives as; anything else is a fault of ours or of the data and is raised at once. The last two:
# Postgres ended a transaction in which our process was frozen.
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
        """`revive` starts Postgres again where that is ours to do, and returns when it answers."""
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
        """One transaction: committed at the end of the block, rolled back where it raises."""
        with self._pool.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            yield cursor

    def run(self, step: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`step(cursor, ...)` in one transaction, done once, and tried again for a minute while Postgres is away or where it
        was chosen in a deadlock.

        Where the connection is lost before the commit is answered, the step's receipt tells whether it took place. Raises
        `LedgerUnavailable`.
        """
        in_doubt: list[T] = []  # what the step returned whose commit was not answered

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

        return self.patiently(attempt)

    def patiently(self, attempt: Callable[[], T]) -> T:
        """`attempt()`, made again for a minute where Postgres went away in it. Raises `LedgerUnavailable`.

        The minute begins with the first failure, since a process may be frozen in an attempt for longer. It does not run
        while Postgres is being started or says that it recovers.
        """
        deadline = math.inf
        pause = 0.1
        while True:
            try:
                return attempt()
            except psycopg.errors.DeadlockDetected:  # Postgres is here; who waited for us as we for them goes on
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline:
                    raise
                logger.info("two transactions waited for each other; trying ours again")
            except (*CONNECTION_LOST, PoolTimeout) as error:
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline or isinstance(error, psycopg.errors.InsufficientPrivilege):
                    raise LedgerUnavailable(
                        f"Postgres went away and did not come back within a minute: {error}"
                    ) from error
                logger.warning("Postgres is away (%s); trying again", type(error).__name__)
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
                away_since = time.monotonic()
                self.revive()
                deadline += time.monotonic() - away_since

    def revive(self) -> None:
        """Have Postgres started again where it is ours to start; one thread at a time. Silent where it cannot be had."""
        with self._reviving, contextlib.suppress(LedgerUnavailable):
            self._revive()

    def _is_committed(self) -> bool:
        with self.transaction() as cursor:
            return receipts.is_left(cursor, self._author)

    def close(self) -> None:
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
        # A transaction a frozen process left open would hold row locks for ever.
        connection.execute("set idle_in_transaction_session_timeout to '60s'")


def _check(connection: Connection) -> None:
    """Raise where Postgres has gone since the connection was last used; a round trip only where it has said anything."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.pgconn.socket, selectors.EVENT_READ)
        if selector.select(timeout=0):
            ConnectionPool.check_connection(connection)


def fetch_one(cur: Cursor, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """The row of a query that always has one (an aggregate, `returning` of a row that is there)."""
    row = cur.execute(query.encode(), parameters).fetchone()
    if row is None:
        raise LookupError("the ledger lacks a row that must be there")
    return row


def notify(cur: Cursor, message: str) -> None:
    """Tell every worker of this ledger, once this transaction commits."""
    cur.execute("select pg_notify('offload_' || current_schema(), %s)", [message])
