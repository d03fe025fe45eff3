"""Workers: register, send heartbeats, deregister, and reclaim the work of dead workers.

A worker is alive or dead, not a call. A separate thread sends a heartbeat every 10 s by the database's clock. A session
advisory lock on a direct connection is released by Postgres the moment the process dies.
"""

import contextlib
import logging
import os
import select
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from dagster_offload import timing
from dagster_offload.host.machine import boot_id, host_name, process_start
from dagster_offload.ledger.core import identity, receipts
from dagster_offload.ledger.core.database import CONNECTION_LOST, Connection, Cursor, Ledger, fetch_one, notify
from dagster_offload.ledger.core.transitions import record_transition

logger = logging.getLogger(__name__)

LONE_DEATHS_TO_QUARANTINE = 3
RECLAIMS_TO_RUN_ALONE = 2
UP = "up"  # the kind of the worker that each `up` registers
STARTED_MESSAGE = "started"  # the notification that a worker registered
FREED_MESSAGE = "freed"  # that a permit was returned, or that there are more


@dataclass(frozen=True)
class WorkerRow:
    """A worker's row in the ledger."""

    worker_id: int
    kind: str
    host: str
    boot_id: str
    pid: int
    run_id: str | None
    started_at: datetime
    heartbeat_at: datetime


class Worker:
    """A process that takes work, as a context manager: it registers, sends heartbeats, and returns its claims at the end.

    Entering reclaims the work of dead workers, and so does every heartbeat. `is_lost` becomes True when the ledger has
    reclaimed this worker's work (the process slept longer than its lease). It must then start nothing new; results it still
    finishes are fenced.
    """

    def __init__(self, ledger: Ledger, kind: str, stages: Sequence[str] = (), run_id: str | None = None) -> None:
        self.ledger = ledger
        self.kind = kind
        self.stages = tuple(stages)
        self.run_id = run_id
        self.id = 0
        self.is_lost = False
        self._listeners: list[Callable[[str], None]] = []
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._beat_until_stopped, name=f"heartbeat-{kind}", daemon=True)
        self._connection: Connection | None = None

    @property
    def is_person(self) -> bool:
        """Whether a person waits for this worker: a run has priority over a drain."""
        return self.kind == "run"

    def on_notify(self, listener: Callable[[str], None]) -> None:
        """Call `listener(message)` from the heartbeat thread for each notification of the ledger."""
        self._listeners.append(listener)

    def __enter__(self) -> "Worker":
        try:
            self.id = self.ledger.run(_register, self.kind, self.stages, self.run_id)
            self._connection = self.ledger.retry_until_available(self._hold)
            self.ledger.run(reclaim_dead, self.ledger.schema)
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        os.write(self._stop_writer, b"x")
        self._thread.join()
        try:
            self.ledger.run(_deregister, self.id)
        finally:
            self._close()

    def _close(self) -> None:
        os.close(self._stop_reader)
        os.close(self._stop_writer)
        if self._connection is not None:
            self._connection.close()

    def _hold(self) -> Connection:
        """Open a direct connection that holds this worker's lock and listens for notifications."""
        connection = self.ledger.connect()
        try:
            connection.execute("select set_config('application_name', %s, false)", [session_of(os.getpid())])
            connection.execute("select pg_advisory_lock(%s, %s)", [lock_class(self.ledger.schema), self.id])
            connection.execute(f"listen {self.ledger.channel}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _beat_until_stopped(self) -> None:
        try:
            self._beat_through_outages()
        except BaseException:
            # Without heartbeats, others reclaim this worker's documents when its lease is over.
            self.is_lost = True
            logger.exception("heartbeat: it ended by an error, so this worker starts nothing new")
            self._notify_listeners("lost")

    def _beat_through_outages(self) -> None:
        while True:
            began = time.monotonic()
            try:
                if self._connection is None:
                    self._connection = self._hold()
                    self._notify_listeners("reconnected")
                self._beat(self._connection)
                self.ledger.outage.end(began)
                if self._listen_until_next_beat(self._connection):
                    return
            except CONNECTION_LOST as error:
                self.ledger.report_outage(error, began)
                if self._connection is not None:
                    with contextlib.suppress(*CONNECTION_LOST):
                        self._connection.close()
                    self._connection = None
                if select.select([self._stop_reader], [], [], 1.0)[0]:
                    return
                self.ledger.revive()  # while calls are open, no other code of this process uses the ledger

    def _beat(self, connection: Connection) -> None:
        if connection.execute(_BEAT, [self.id]).rowcount == 0:
            self.is_lost = True
            self._notify_listeners("lost")
        # After a deadlock Postgres is still available; the next heartbeat retries.
        with contextlib.suppress(psycopg.errors.DeadlockDetected), connection.transaction(), connection.cursor() as cur:
            reclaim_dead(cur, self.ledger.schema)

    def _listen_until_next_beat(self, connection: Connection) -> bool:
        """Pass notifications to the listeners until the next heartbeat is due; True if the worker must stop."""
        next_beat = time.monotonic() + timing.current().heartbeat
        while (left := next_beat - time.monotonic()) > 0:
            # Before the wait: notifications that arrived with the heartbeat's own queries do not make the socket readable.
            for notification in connection.notifies(timeout=0):
                self._notify_listeners(notification.payload)
            if self._stop_reader in select.select([connection.fileno(), self._stop_reader], [], [], left)[0]:
                return True
        return False

    def _notify_listeners(self, message: str) -> None:
        for listener in self._listeners:
            listener(message)


_BEAT = "update workers set heartbeat_at = clock_timestamp() where worker_id = %s and ended_at is null"


# Whether the process of a worker `w` lives and is connected.
_ITS_LOCK = """l.locktype = 'advisory' and l.objsubid = 2
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid = %(class)s::oid and l.objid = w.worker_id::bigint::oid"""
_HAS_LOCK = f"exists (select from pg_locks l where {_ITS_LOCK})"


def lock_class(schema: str) -> int:
    """The first key of a worker's advisory lock, one per schema (31 bits: Postgres takes a signed int4)."""
    return zlib.crc32(schema.encode()) & 0x7FFFFFFF


def lock_alive(cur: Cursor, worker_id: int) -> bool:
    """Whether this worker is still registered. If so, no other worker can reclaim it before this transaction ends."""
    cur.execute("select 1 from workers where worker_id = %s and ended_at is null for key share", [worker_id])
    return cur.fetchone() is not None


def _register(cur: Cursor, kind: str, stages: Sequence[str], run_id: str | None) -> int:
    receipts.forget_old(cur)
    row = fetch_one(
        cur,
        "insert into workers (kind, host, boot_id, pid, run_id, stages) values (%s, %s, %s, %s, %s, %s) "
        "returning worker_id",
        [kind, host_name(), boot_id(), os.getpid(), run_id, list(stages)],
    )
    identity.refuse_moved(cur)  # after the insert, which waits for a move that is under way
    notify(cur, STARTED_MESSAGE)
    return int(row["worker_id"])


def deregister_all(cur: Cursor, reason: str) -> None:
    """Deregister every worker: those of a restored ledger no longer exist."""
    cur.execute("select worker_id from workers where ended_at is null order by worker_id")
    for row in cur.fetchall():
        _deregister(cur, row["worker_id"], reason)


def _deregister(cur: Cursor, worker_id: int, reason: str = "the worker stopped") -> None:
    """Return all claims and permits. This costs no document an attempt."""
    # Waits for claims and permits still in flight (see `lock_alive`): nothing would return them afterwards.
    cur.execute("select 1 from workers where worker_id = %s for update", [worker_id])
    cur.execute(
        "update work_items set state = 'pending', reason = %s, changed_at = clock_timestamp() "
        "where state = 'claimed' and worker_id = %s returning document_id, stage",
        [reason, worker_id],
    )
    for row in cur.fetchall():
        record_transition(cur, row["document_id"], row["stage"], "claimed", "pending", worker_id, reason)
    _free_slots(cur, worker_id)
    cur.execute(
        "update workers set ended_at = clock_timestamp() where worker_id = %s and ended_at is null", [worker_id]
    )


def _free_slots(cur: Cursor, worker_id: int) -> None:
    # Slots first: every transaction locks a slot before its permits.
    cur.execute("update slots set trial_worker = null where trial_worker = %s", [worker_id])
    cur.execute("delete from permits where worker_id = %s", [worker_id])
    cur.execute("delete from permit_waiters where worker_id = %s", [worker_id])
    notify(cur, FREED_MESSAGE)


def reclaim_dead(cur: Cursor, schema: str) -> list[int]:
    """Reclaim the claims and permits of dead workers; returns the workers' ids.

    A worker is dead if its lease has expired, or if its lock is free, its heartbeat is over 15 s old and Postgres has been
    up for over 30 s. The lease does not run while Postgres is down. A death counts against a document only if the document
    ran alone, and never after a reboot of the host, a restart of Postgres or a sleep: a process that slept for longer than
    its lease still has its lock.
    """
    cur.execute(
        "select worker_id, pg_postmaster_start_time() > heartbeat_at as server_restarted, "
        f"  host = %(host)s and boot_id <> %(boot)s as rebooted, {_HAS_LOCK} as is_connected "
        "from workers w where ended_at is null and ("
        "  greatest(heartbeat_at, pg_postmaster_start_time()) < clock_timestamp() - make_interval(secs => %(lease)s)"
        "  or (heartbeat_at < clock_timestamp() - make_interval(secs => %(stale)s)"
        "      and pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(settled)s)"
        f"      and not {_HAS_LOCK})"
        ") for update skip locked",
        {
            "host": host_name(),
            "boot": boot_id(),
            "lease": timing.current().lease,
            "stale": timing.current().stale_heartbeat,
            "settled": timing.current().server_settled,
            "class": lock_class(schema),
        },
    )
    dead = cur.fetchall()
    for row in dead:
        _reclaim(cur, row["worker_id"], _innocent_end(row))
    return [row["worker_id"] for row in dead]


def _innocent_end(row: Mapping[str, Any]) -> str | None:
    """What happened to a dead worker, if no document can be the cause of it; None if one can."""
    if row["server_restarted"] or row["rebooted"]:
        return "went down with its host or with Postgres"
    return "slept for longer than its lease" if row["is_connected"] else None


def _reclaim(cur: Cursor, worker_id: int, innocent_end: str | None) -> None:
    reason = f"worker {worker_id} {innocent_end or 'died'}"
    cur.execute(
        "update work_items set "
        "  reclaims = reclaims + %(one)s, "
        "  lone_deaths = lone_deaths + case when claimed_alone then %(one)s else 0 end, "
        "  must_run_alone = must_run_alone or reclaims + %(one)s >= %(alone)s, "
        "  state = case when claimed_alone and lone_deaths + %(one)s >= %(lone)s then 'quarantined' else 'pending' end, "
        "  reason = %(reason)s || case when claimed_alone and lone_deaths + %(one)s >= %(lone)s "
        "    then ' for the third time while this document ran alone: check the file, then `retry`' else '' end, "
        "  not_before = null, changed_at = clock_timestamp() "
        "where state = 'claimed' and worker_id = %(worker)s returning document_id, stage, state, reason",
        {
            "one": 0 if innocent_end else 1,
            "alone": RECLAIMS_TO_RUN_ALONE,
            "lone": LONE_DEATHS_TO_QUARANTINE,
            "reason": reason,
            "worker": worker_id,
        },
    )
    for row in cur.fetchall():
        record_transition(cur, row["document_id"], row["stage"], "claimed", row["state"], worker_id, row["reason"])
    _free_slots(cur, worker_id)
    cur.execute(
        "update workers set ended_at = clock_timestamp(), was_reclaimed = true where worker_id = %s", [worker_id]
    )


def connected(cur: Cursor, schema: str, kind: str) -> tuple[str, int] | None:
    """Host and process of the oldest worker of this kind that is connected; None if none is. Reads tables of any version.

    Postgres may keep the lock of a host that lost its power for hours, so its lease counts, too.
    """
    cur.execute(
        "select host, pid from workers w where ended_at is null and kind = %(kind)s "
        f"and heartbeat_at >= clock_timestamp() - make_interval(secs => %(lease)s) and {_HAS_LOCK} "
        "order by worker_id limit 1",
        {"kind": kind, "lease": timing.current().lease, "class": lock_class(schema)},
    )
    row = cur.fetchone()
    return None if row is None else (row["host"], row["pid"])


def live_workers(cur: Cursor, schema: str, kind: str | None = None) -> list[WorkerRow]:
    """Workers that are alive, of one kind or of all. Reclaims dead workers first."""
    reclaim_dead(cur, schema)
    cur.execute(
        f"{_ROWS} where ended_at is null and (%(kind)s::text is null or kind = %(kind)s) order by worker_id",
        {"kind": kind},
    )
    return [WorkerRow(**row) for row in cur.fetchall()]


def connected_workers(cur: Cursor, schema: str) -> list[WorkerRow]:
    """Workers that are connected now: their processes live. After an outage, a live worker may not be among them for a moment."""
    cur.execute(f"{_ROWS} w where ended_at is null and {_HAS_LOCK} order by worker_id", {"class": lock_class(schema)})
    return [WorkerRow(**row) for row in cur.fetchall()]


def connected_sessions(cur: Cursor, schema: str) -> dict[int, str]:
    """The name of the session that holds a worker's lock, by worker: `session_of` its process. Empty for an older version's."""
    cur.execute(
        "select w.worker_id, case when a.application_name like %(ours)s then a.application_name else '' end as session "
        f"from workers w join pg_locks l on {_ITS_LOCK} left join pg_stat_activity a on a.pid = l.pid where w.ended_at is null",
        {"class": lock_class(schema), "ours": f"{_SESSION}%"},
    )
    return {row["worker_id"]: row["session"] for row in cur.fetchall()}


def session_of(pid: int) -> str:
    """What names the session of a process of this machine: a process in a container may have its host, boot and id."""
    return f"{_SESSION}{process_start(pid)}"


_SESSION = "dagster-offload, process started "
_ROWS = "select worker_id, kind, host, boot_id, pid, run_id, started_at, heartbeat_at from workers"
