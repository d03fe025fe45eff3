"""Permits: the right to have one completion request open at a slot. All workers of the ledger together hold at most N.

A permit is a row that belongs to a worker. The worker keeps it from call to call, so a call costs no query. The permits of
a dead worker are reclaimed with its claims (core/workers.py).
"""

from dagster_offload.ledger.core.database import Cursor, fetch_one, notify
from dagster_offload.ledger.core.workers import FREED_MESSAGE, lock_alive
from dagster_offload.ledger.slots.slots import WANTED_MESSAGE, forgotten, lock, locked


def acquire(
    cur: Cursor, slot: str, worker_id: int, *, is_person: bool, is_exclusive: bool = False, count: int = 1
) -> int:
    """Take up to `count` permits, as many as are free, and wait in the queue for the rest (see `give_up_if_wanted`).
    Returns how many were taken. Raises `SlotForgotten`.

    An exclusive permit, for a document that must run alone, is granted only while no permit is held, and blocks all others.
    A drain gets none while a person's run waits. A worker that was reclaimed gets none.
    """
    if not lock_alive(cur, worker_id):
        return 0
    n = locked(cur, slot).concurrency
    row = fetch_one(
        cur,
        "select count(*) as held, coalesce(bool_or(is_exclusive), false) as is_shut, "
        "  exists (select 1 from permit_waiters where slot = %(slot)s and is_person and worker_id <> %(worker)s) "
        "    as a_person_waits "
        "from permits where slot = %(slot)s",
        {"slot": slot, "worker": worker_id},
    )
    free = int(row["held"] == 0) if is_exclusive else 0 if row["is_shut"] else max(n - row["held"], 0)
    taken = min(free, count) if is_person or not row["a_person_waits"] else 0
    cur.execute(
        "insert into permits (slot, worker_id, is_exclusive) select %s, %s, %s from generate_series(1, %s)",
        [slot, worker_id, is_exclusive, taken],
    )
    if taken == count:
        stop_waiting(cur, slot, worker_id)
        return taken
    cur.execute(
        "insert into permit_waiters (slot, worker_id, is_person) values (%s, %s, %s) on conflict do nothing",
        [slot, worker_id, is_person],
    )
    if cur.rowcount and is_person:
        notify(cur, f"{WANTED_MESSAGE}{slot}")
    return taken


def stop_waiting(cur: Cursor, slot: str, worker_id: int) -> None:
    """Remove this worker from the slot's queue."""
    cur.execute("delete from permit_waiters where slot = %s and worker_id = %s", [slot, worker_id])


def count_held(cur: Cursor, slot: str) -> int:
    """How many permits all workers hold at a slot: the most calls that may be open there."""
    return int(fetch_one(cur, "select count(*) as n from permits where slot = %s", [slot])["n"])


def release(cur: Cursor, slot: str, worker_id: int, count: int = 1) -> None:
    """Return `count` of this worker's permits. A forgotten slot has none left.

    The lock keeps two lanes that end at the same moment from picking the same row. Otherwise one permit would remain, and a
    lane that needs the slot alone would wait for its own worker forever.
    """
    lock(cur, slot)
    cur.execute(
        "delete from permits where permit_id in (select permit_id from permits where slot = %s and worker_id = %s "
        "order by permit_id limit %s)",
        [slot, worker_id, count],
    )
    notify(cur, FREED_MESSAGE)


def is_wanted(cur: Cursor, slot: str, *, is_person: bool) -> bool:
    """Whether holders should return a permit between two calls: a person's run waits, or more permits are held than N or
    the prompt cache size.

    A person's run returns no permit for another person's run. Raises `SlotForgotten`.
    """
    cur.execute(
        "select (select count(*) from permits p where p.slot = s.name) > least(s.permits, s.prompt_cache_size) as is_over, "
        "  exists (select 1 from permit_waiters w where w.slot = s.name and w.is_person) as a_person_waits "
        "from slots s where s.name = %s",
        [slot],
    )
    if (row := cur.fetchone()) is None:
        raise forgotten(slot)
    return bool(row["is_over"] or (row["a_person_waits"] and not is_person))


def give_up_if_wanted(cur: Cursor, slot: str, worker_id: int, *, is_person: bool) -> bool:
    """Return one of this worker's permits if it `is_wanted`; True if it was returned. Raises `SlotForgotten`."""
    locked(cur, slot)
    if not is_wanted(cur, slot, is_person=is_person):
        return False
    release(cur, slot, worker_id)
    return True
