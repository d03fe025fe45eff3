"""Receipts: whether a transaction whose commit was never answered took place.

A connection lost between COMMIT and its answer leaves us in doubt; doing the step again could take a second permit or
count a fault twice. So every step that writes leaves its number beside what it wrote. Postgres' own answer
(`pg_xact_status`) will not do: after a crash a number that was never flushed is given out again.
"""

import threading
import uuid
from typing import Any

import psycopg

Cursor = psycopg.Cursor[dict[str, Any]]

# Far longer than a step is tried again.
KEPT_MINUTES = 60


class Author(threading.local):
    """One thread of this process: it does one step at a time, so its last number is enough."""

    def __init__(self) -> None:
        self.name = uuid.uuid4()
        self.step = 0


def leave_and_commit(cur: Cursor, author: Author) -> None:
    """The end of a step's transaction, in one round trip; leaves nothing where the step wrote nothing."""
    author.step += 1
    # Without parameters, because only then two statements go together. Neither value comes from elsewhere.
    receipt = (
        f"insert into receipts (author, step) select '{author.name}'::uuid, {author.step} "
        "where pg_current_xact_id_if_assigned() is not null "
        "on conflict (author) do update set step = excluded.step, left_at = excluded.left_at"
    )
    cur.execute(f"{receipt}; COMMIT".encode())


def is_left(cur: Cursor, author: Author) -> bool:
    """Whether the author's last step was committed. Waits for a transaction that is still at it."""
    cur.execute(
        "insert into receipts (author, step) values (%s, 0) "
        "on conflict (author) do update set left_at = clock_timestamp() returning step",
        [author.name],
    )
    row = cur.fetchone()
    return row is not None and row["step"] == author.step


def forget_old(cur: Cursor) -> None:
    """Remove what nobody will ask for any more."""
    cur.execute("delete from receipts where left_at < clock_timestamp() - make_interval(mins => %s)", [KEPT_MINUTES])
