"""Receipts show whether a transaction was committed when Postgres never confirmed the commit.

If the connection is lost between COMMIT and its confirmation, the step is in doubt: repeating it could take a second permit
or count a fault twice. So every step that writes also stores its number in the same transaction. Postgres' own
`pg_xact_status` is not reliable here: after a crash Postgres reuses transaction ids that it never flushed.
"""

import threading
import uuid
from typing import Any

import psycopg

Cursor = psycopg.Cursor[dict[str, Any]]

# Much longer than a step is retried.
KEPT_MINUTES = 60


class Author(threading.local):
    """A thread of this process. It runs one step at a time, so its last number is enough."""

    def __init__(self) -> None:
        self.name = uuid.uuid4()
        self.step = 0


def leave_and_commit(cur: Cursor, author: Author) -> None:
    """Commit a step's transaction in one round trip, with a receipt if the step wrote anything."""
    author.step += 1
    # Two statements fit in one query only without parameters. Both values are generated here, so this is safe.
    receipt = (
        f"insert into receipts (author, step) select '{author.name}'::uuid, {author.step} "
        "where pg_current_xact_id_if_assigned() is not null "
        "on conflict (author) do update set step = excluded.step, left_at = excluded.left_at"
    )
    cur.execute(f"{receipt}; COMMIT".encode())


def is_left(cur: Cursor, author: Author) -> bool:
    """Whether the author's last step was committed. Waits if its transaction is still open."""
    cur.execute(
        "insert into receipts (author, step) values (%s, 0) "
        "on conflict (author) do update set left_at = clock_timestamp() returning step",
        [author.name],
    )
    row = cur.fetchone()
    return row is not None and row["step"] == author.step


def forget_old(cur: Cursor) -> None:
    """Remove receipts that are too old to be needed."""
    cur.execute("delete from receipts where left_at < clock_timestamp() - make_interval(mins => %s)", [KEPT_MINUTES])
