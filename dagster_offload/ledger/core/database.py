"""The connection to the ledger: transactions, and retries while Postgres is unavailable."""

import logging
import math
import re
import select
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from dagster_offload import timing
from dagster_offload.errors import LedgerAway, LedgerUnavailable
from dagster_offload.ledger.core import receipts
from dagster_offload.ledger.core.outage import POOL_NAME, LedgerConnection, Outage
from dagster_offload.postgres.outages import describe_outage, is_outage
from dagster_offload.postgres.urls import shown_address, without_password
from dagster_offload.text.counts import agreeing, counted

P = ParamSpec("P")
T = TypeVar("T")
Cursor = psycopg.Cursor[dict[str, Any]]
Connection = psycopg.Connection[dict[str, Any]]

logger = logging.getLogger(__name__)

DEFAULT_SCHEMA = "offload"
CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 1.0
# The pool's back-off grows. Without this limit the pool would sleep for minutes after a long recovery.
RECONNECT_SECONDS = 2.0
# Errors of a lost connection. Any other error is a bug or bad data and is raised at once. The last three: Postgres ended a
# transaction because our process was frozen in it, or permits no writing now: a standby, or a disk that is nearly full.
CONNECTION_LOST = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
    psycopg.errors.ReadOnlySqlTransaction,
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
        self.outage = Outage()
        self._not_revived = ""  # why the last restart failed
        self._answers_in_hand = 0  # changed only by the thread of the event loop
        self._keeps_answers = False
        self._cluster: str | None = None  # which Postgres it is, whatever its address
        self._pool = self._make_pool()

    def _make_pool(self) -> ConnectionPool[Connection]:
        return _NewestFirstPool(
            self.conninfo,
            min_size=0,
            max_size=16,
            max_idle=60,
            num_workers=1,
            timeout=CONNECT_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            open=True,
            name=POOL_NAME,
            connection_class=LedgerConnection[dict[str, Any]],
            kwargs={"row_factory": dict_row, "autocommit": True},
            configure=self._configure,
            check=_check,
        )

    def connect(self) -> Connection:
        """A direct connection outside the pool, in autocommit; the caller closes it."""
        connection = LedgerConnection[dict[str, Any]].connect(self.conninfo, autocommit=True, row_factory=dict_row)
        self._configure(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """One transaction: committed at the end of the block, rolled back if the block raises."""
        with self._pool.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """A connection of the pool, in autocommit, for a lock of its session; the caller releases the lock."""
        pool, connection = self.retry_until_available(self._taken_from_pool)
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _taken_from_pool(self) -> tuple[ConnectionPool[Connection], Connection]:
        pool = self._pool
        return pool, pool.getconn()

    def run(self, step: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `step(cursor, ...)` in one transaction, exactly once. Retries while Postgres is unavailable or after a
        deadlock: see `retry_until_available`.

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
                try:
                    returned = step(cursor, *args, **kwargs)
                    in_doubt.append(returned)
                    receipts.leave_and_commit(cursor, self._author)
                except psycopg.errors.ReadOnlySqlTransaction:
                    connection.close()  # a session stays read-only, a new one may not be
                    raise
            return returned

        return self.retry_until_available(attempt)

    def retry_until_available(self, attempt: Callable[[], T]) -> T:
        """Call `attempt()`, and retry it for a minute while Postgres is unavailable. Raises `LedgerUnavailable`.

        The minute begins with the first failure, because a process may be frozen in an attempt for longer. Time in which
        Postgres starts or recovers does not count. While an answer is in hand (see `answer_in_hand`), there is no limit.
        """
        deadline = math.inf
        pause, is_second_attempt = 0.1, False
        while True:
            began = time.monotonic()
            try:
                returned = attempt()
                self.outage.end(began)
                return returned
            except psycopg.errors.DeadlockDetected:  # Postgres is available, and the other transaction proceeds
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline:
                    raise
                logger.info("deadlock between two transactions: retrying this one")
            except psycopg.errors.ForeignKeyViolation:  # `gc` has just removed an unused result that this step found
                if is_second_attempt:
                    raise
                is_second_attempt = True
            except (*CONNECTION_LOST, PoolTimeout) as error:
                if not is_outage(error):
                    raise
                if self._pool.closed:
                    raise LedgerUnavailable("this process has closed its ledger") from error
                deadline = min(deadline, time.monotonic() + timing.current().ledger_patience)
                if time.monotonic() > deadline and not (self._keeps_answers and self._answers_in_hand):
                    raise LedgerAway(f"Postgres stays unavailable: {self._cause_without_password(error)}") from error
                self.report_outage(error, began)
                time.sleep(pause)
                pause = min(pause * 2, 2.0)
                revive_began = time.monotonic()
                self.revive()
                deadline += time.monotonic() - revive_began

    @contextmanager
    def keeping_answers(self) -> Iterator[None]:
        """Outside such a block, `answer_in_hand` changes nothing: work that was stopped waits no longer than other steps."""
        self._keeps_answers = True
        try:
            yield
        finally:
            self._keeps_answers = False

    @contextmanager
    def answer_in_hand(self) -> Iterator[None]:
        """During the block, every step of this ledger retries without a limit while Postgres is unavailable.

        For a call from its request until its answer is stored: otherwise the first step that gives up, in any lane, would
        end the worker and lose the answers of all lanes.
        """
        self._answers_in_hand += 1
        try:
            yield
        finally:
            self._answers_in_hand -= 1

    def report_outage(self, error: BaseException, began: float) -> None:
        """Log that Postgres is unavailable, once for each outage and for all threads that use this ledger.

        `began`: when the failed attempt began, on the monotonic clock.
        """
        in_hand = self._answers_in_hand
        kept = (
            f"{counted(in_hand, 'call')} {agreeing('are', in_hand)} open or {agreeing('wait', in_hand)} to be stored; "
            if in_hand
            else ""
        )
        place = shown_address(self.conninfo)
        self.outage.report(place, lambda: self._cause_without_password(error), f"{kept}retrying", began)

    def _cause_without_password(self, error: BaseException) -> str:
        """Why Postgres is unavailable."""
        return without_password(self._cause(error), self.conninfo)

    def _cause(self, error: BaseException) -> str:
        # The pool only reports that it got no connection, so one is opened here.
        if self._not_revived:
            return self._not_revived
        if isinstance(error, PoolTimeout):
            try:
                psycopg.connect(self.conninfo, connect_timeout=2).close()
            except psycopg.Error as refusal:
                return describe_outage(refusal)
        return describe_outage(error)

    def revive(self) -> None:
        """Restart an embedded Postgres, one thread at a time. If that fails, the caller retries and reports the reason.

        Does nothing once the ledger is closed: the Postgres was then stopped on purpose.
        """
        with self._reviving:
            if self._pool.closed:
                return
            try:
                self._revive()
                self._not_revived = ""
            except LedgerUnavailable as error:
                self._not_revived = str(error)

    def move(self, conninfo: str) -> None:
        """Use another address of the same Postgres from now on. Raises `LedgerUnavailable` if it is another Postgres."""
        if conninfo == self.conninfo:
            return
        try:
            with psycopg.connect(conninfo, autocommit=True) as connection:
                cluster = _cluster_of(connection)
        except psycopg.Error as error:
            raise LedgerUnavailable(describe_outage(error)) from error
        if self._cluster is None or cluster != self._cluster:
            raise LedgerUnavailable(
                "the new address leads to another Postgres: work in progress stays with the old one"
            )
        old, self.conninfo = self._pool, conninfo
        self._pool = self._make_pool()
        old.close()
        logger.warning("Postgres has a new address; work goes on there")

    def _is_committed(self) -> bool:
        with self.transaction() as cursor:
            return receipts.is_left(cursor, self._author)

    def close(self) -> None:
        """Close the pool's connections. A thread that waits for a silent Postgres is left to itself after a second."""
        self._pool.close(CLOSE_SECONDS)

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
        if self._cluster is None:
            self._cluster = _cluster_of(connection)


def _cluster_of(connection: psycopg.Connection[Any]) -> str | None:
    """Identifies the Postgres cluster and the database: a restart or a new address does not change it. None if this role may
    not know."""
    query = (
        b"select system_identifier || '/' || d.oid from pg_control_system(), pg_database d "
        b"where d.datname = current_database()"
    )
    try:
        with connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(query).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return None if row is None else str(row[0])


class _NewestFirstPool(ConnectionPool[Connection]):
    """Lends the connection that was returned last. Each one's server process plans the ledger's functions for itself, so few
    connections that are used often cost less than many that take turns. The others close after `max_idle`."""

    def _get_ready_connection(self, timeout: float | None) -> Connection | None:
        self._pool.rotate(1)
        return super()._get_ready_connection(timeout)


def _check(connection: Connection) -> None:
    """Raise if Postgres closed the connection since its last use. Costs a round trip only if the socket has data."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)


def fetch_one(cur: Cursor, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> dict[str, Any]:
    """The row of a query that always returns one, such as an aggregate. Raises `LookupError` if there is none."""
    row = cur.execute(query.encode(), parameters).fetchone()
    if row is None:
        raise LookupError("a row that must exist is missing from the ledger")
    return row


def see_one_moment(cur: Cursor) -> None:
    """Let all that this transaction reads be of one moment, so that its numbers agree. Must come before all else in it."""
    cur.execute("set transaction isolation level repeatable read")


def notify(cur: Cursor, message: str) -> None:
    """Notify every worker of this ledger when this transaction commits."""
    cur.execute("select pg_notify('offload_' || current_schema(), %s)", [message])
