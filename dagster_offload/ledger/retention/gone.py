"""Removes documents that have been gone for long, and the results that no document uses now.

It is off unless OFFLOAD_KEEP_GONE_DAYS is set or a person runs `gc`: a file that comes back is then processed again.

Results are looked at in pages, so that no statement reads a whole table.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one
from dagster_offload.ledger.retention import history

BATCH = 1_000
PAGE = 10_000
POSITION = "gone"  # in `upkeep_positions`

# `now()`, not the volatile `clock_timestamp()`, with which Postgres would run a subquery for each row.
_CUTOFF = "now() - make_interval(days => %(days)s)"
_IS_GONE = f"gone_at < {_CUTOFF}"
_IS_KEPT = f"(d.gone_at < {_CUTOFF}) is not true"
# A result is unused if a redo replaced it, or if its input no longer belongs to a document that is kept: such documents are
# gone, or have other content by now. A result of another recipe is kept, because its recipe may come back. `in_doubt` are
# those whose input no finished document has; `_USED` selects those of them whose input an unfinished document has.
# `limit 1` makes Postgres search an index for each row instead of joining whole tables.
_NEXT = f"""
    with page as materialized (
        select result_id, stage, input_digest, superseded_at < {_CUTOFF} as was_replaced, created_at < {_CUTOFF} as is_old
        from results where result_id > %(after)s order by result_id limit %(most)s),
    idle as materialized (
        select p.* from page p left join lateral (
            select true as yes from work_items i join documents d using (document_id)
            where i.result_id = p.result_id and {_IS_KEPT} limit 1) used on true
        where p.is_old and used.yes is null)
    select (select max(result_id) from page) as last,
        array(select result_id from idle where was_replaced) as replaced,
        array(select p.result_id from idle p left join lateral (
            select true as yes from results r join work_items i on i.result_id = r.result_id join documents d using (document_id)
            where r.stage = p.stage and r.input_digest = p.input_digest and r.superseded_at is null and {_IS_KEPT} limit 1)
            used on true where p.was_replaced is not true and used.yes is null) as in_doubt
"""
_USED = f"""
    select r.result_id from results r cross join lateral (
        select from work_items i join documents d using (document_id)
        where i.stage = r.stage and i.input_digest = r.input_digest and i.state <> 'done' and {_IS_KEPT} limit 1) used
    where r.result_id = any(%(in_doubt)s)
"""
_BYTES = "coalesce(pg_column_size(text), 0) + coalesce(pg_column_size(value), 0)"


@dataclass(frozen=True)
class Garbage:
    """What is, or would be, removed. `bytes` is the space that texts and records take."""

    documents: int = 0
    results: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class _Page:
    """The unused results among some of the results. `last` is the id of the last one of these; None: there are no more."""

    unused: list[int]
    last: int | None


def find(ledger: Ledger, days: int) -> Garbage:
    """What `remove` would remove now."""
    documents, results, space = ledger.run(_count_documents, days), 0, 0
    for page in _pages(ledger, days, 0, PAGE):
        results += len(page.unused)
        space += ledger.run(_bytes, page.unused) if page.unused else 0
    return Garbage(documents, results, space)


def remove(ledger: Ledger, days: int, seconds: float | None = None, batch: int = BATCH, page: int = PAGE) -> bool:
    """Remove documents that have been gone for more than `days` days, and the results unused by then.

    Works in batches, for at most about `seconds` (None: to the end). Returns whether nothing is left to remove. If something is,
    the next call goes on with the results that this one did not look at.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while ledger.run(_remove_documents, days, batch):
        if time.monotonic() > deadline:
            return False
    reached = 0 if seconds is None else int(ledger.run(history.position, POSITION) or 0)
    for found in _pages(ledger, days, reached, page):
        for start in range(0, len(found.unused), batch):
            ledger.run(_remove_results, found.unused[start : start + batch])
        ledger.run(history.set_position, POSITION, None if found.last is None else str(found.last))
        if time.monotonic() > deadline and found.last is not None:
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
        cur.execute(f"select distinct input_digest from {table} where input_digest = any(%s)".encode(), [list(digests)])
        if not cur.rowcount:  # only documents in work have parts
            continue
        cur.execute(
            f"delete from {table} t where t.input_digest = any(%s) "
            "and not exists (select from work_items i where i.input_digest = t.input_digest)".encode(),
            [[row["input_digest"] for row in cur.fetchall()]],
        )


def _pages(ledger: Ledger, days: int, after: int, most: int) -> Iterator[_Page]:
    """The unused results, page by page; at least one page."""
    last: int | None = after
    while last is not None:
        page = ledger.run(_next_page, days, last, most)
        yield page
        last = page.last


def _next_page(cur: Cursor, days: int, after: int, most: int) -> _Page:
    row = fetch_one(cur, _NEXT, {"days": days, "after": after, "most": most})
    unused, in_doubt = set(row["replaced"]), row["in_doubt"]
    if in_doubt:
        cur.execute(_USED.encode(), {"days": days, "in_doubt": in_doubt})
        unused |= set(in_doubt) - {used["result_id"] for used in cur.fetchall()}
    return _Page(sorted(unused), row["last"])


def _count_documents(cur: Cursor, days: int) -> int:
    return int(fetch_one(cur, f"select count(*) as n from documents where {_IS_GONE}", {"days": days})["n"])


def _bytes(cur: Cursor, result_ids: Sequence[int]) -> int:
    row = fetch_one(
        cur, f"select sum({_BYTES})::bigint as bytes from results where result_id = any(%s)", [list(result_ids)]
    )
    return int(row["bytes"] or 0)


def _remove_results(cur: Cursor, result_ids: Sequence[int]) -> None:
    """Remove these results, unless a document has begun to use one meanwhile."""
    cur.execute(
        "delete from results r where r.result_id = any(%s) "
        "and not exists (select from work_items i where i.result_id = r.result_id)",
        [list(result_ids)],
    )
