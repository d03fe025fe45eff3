"""Removes documents that have been gone for long, and the results that no document uses any more.

It is off unless OFFLOAD_KEEP_GONE_DAYS is set or a person runs `gc`: a file that comes back is then processed again.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one

BATCH = 1_000

# `now()`, not the volatile `clock_timestamp()`, with which Postgres would run a subquery for each row.
_CUTOFF = "now() - make_interval(days => %(days)s)"
_IS_GONE = f"gone_at < {_CUTOFF}"
_IS_KEPT = f"(d.gone_at < {_CUTOFF}) is not true"
# A result `r` is unused if a redo replaced it, or if its input belongs to no document (of those that are `{kept}`) any more:
# they are gone, or have other content by now. A result of another recipe is kept, because its recipe may come back. Written
# without `or` between the two, so that Postgres joins the tables once and does not search one for each row of the other.
_IS_UNUSED = f"""
    r.created_at < {_CUTOFF}
    and not exists (
        select from work_items i join documents d using (document_id) where i.result_id = r.result_id and {{kept}})
    and not exists (
        select from work_items i join documents d using (document_id)
        where i.stage = r.stage and i.input_digest = r.input_digest and {{kept}}
            and (r.superseded_at < {_CUTOFF}) is not true)
"""
_BYTES = "coalesce(pg_column_size(r.text), 0) + coalesce(pg_column_size(r.value), 0)"


@dataclass(frozen=True)
class Garbage:
    """What is, or would be, removed. `bytes` is the space that texts and records take."""

    documents: int = 0
    results: int = 0
    bytes: int = 0


def find(cur: Cursor, days: int) -> Garbage:
    """What `remove` would remove now."""
    _read_each_table_once(cur)
    row = fetch_one(
        cur,
        f"select (select count(*) from documents where {_IS_GONE}) as documents, count(*) as results, "
        f"coalesce(sum({_BYTES}), 0)::bigint as bytes from results r "
        f"where {_IS_UNUSED.format(kept=_IS_KEPT)}",
        {"days": days},
    )
    return Garbage(**row)


def remove(ledger: Ledger, days: int, seconds: float | None = None, batch: int = BATCH) -> bool:
    """Remove documents that have been gone for more than `days` days, and the results unused by then.

    Works in batches, for at most about `seconds` (None: to the end). Returns whether nothing is left to remove.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while ledger.run(_remove_documents, days, batch):
        if time.monotonic() > deadline:
            return False
    unused = ledger.run(_unused_results, days)
    for start in range(0, len(unused), batch):
        ledger.run(_remove_results, unused[start : start + batch])
        if time.monotonic() > deadline:
            return False
    return True


def _remove_documents(cur: Cursor, days: int, batch: int) -> int:
    # The locks keep a scan from bringing these documents back meanwhile.
    cur.execute(
        f"select document_id from documents where {_IS_GONE} order by document_id limit %(batch)s for update skip locked",
        {"days": days, "batch": batch},
    )
    ids = [row["document_id"] for row in cur.fetchall()]
    if not ids:
        return 0
    cur.execute("delete from work_items where document_id = any(%s) returning item_id, input_digest", [ids])
    removed = cur.fetchall()
    cur.execute("delete from calls where item_id = any(%s)", [[row["item_id"] for row in removed]])
    for table in ("outbox", "transitions", "documents"):
        cur.execute(f"delete from {table} where document_id = any(%s)".encode(), [ids])
    _remove_parts(cur, [row["input_digest"] for row in removed])
    return len(ids)


def _remove_parts(cur: Cursor, digests: Sequence[str | None]) -> None:
    for table in ("part_answers", "ocr_pages"):
        cur.execute(
            f"delete from {table} t where t.input_digest = any(%s) "
            "and not exists (select from work_items i where i.input_digest = t.input_digest)".encode(),
            [list(digests)],
        )


def _read_each_table_once(cur: Cursor) -> None:
    """Keep Postgres from searching one table for each row of the other: it expects a single unused result, however many."""
    cur.execute("set local enable_nestloop = off")


def _unused_results(cur: Cursor, days: int) -> list[int]:
    _read_each_table_once(cur)
    cur.execute(f"select r.result_id from results r where {_IS_UNUSED.format(kept='true')} order by 1", {"days": days})
    return [row["result_id"] for row in cur.fetchall()]


def _remove_results(cur: Cursor, result_ids: Sequence[int]) -> None:
    """Remove these results, unless a document has begun to use one meanwhile."""
    cur.execute(
        "delete from results r where r.result_id = any(%s) "
        "and not exists (select from work_items i where i.result_id = r.result_id)",
        [list(result_ids)],
    )
