"""Documents in the ledger: a scan stores which are new, changed, gone or back, and creates their first-stage items."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import psycopg
from psycopg.rows import scalar_row, tuple_row

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.transitions import record_transition
from dagster_offload.ledger.work import corrections
from dagster_offload.ledger.work.finish import complete_by_reuse
from dagster_offload.library.files import FileStat, SeenFile, UnusableName


class KnownDocument(NamedTuple):
    """A document as the last scan left it."""

    key: str
    is_present: bool
    digest: str | None


# A file that was written this shortly before it was read may have changed again without a change of its stat.
RACY_SECONDS = 2
FILES_AT_ONCE = 1_000

# How long, and for how many scans, a partition without a document is kept: a person may be launching a run over it.
KEPT_MINUTES = 10
KEPT_SCANS = 2


def _is_settled(at: str) -> str:
    """The condition that the bytes of a document's file need not be read again, at a time, while the file's state stays the same.

    A document without `digested_at` was not read, for example for want of permission. A file whose modification time is in
    the future must not be read at every scan; it is read once when that time has passed.
    """
    return (
        "(digested_at is null "
        f"or mtime_ns <= (date_part('epoch', digested_at) - {RACY_SECONDS}) * 1e9 "
        f"or mtime_ns >= date_part('epoch', {at}) * 1e9)"
    )


def present_files(
    cur: Cursor, *, at: datetime, reason: str, most: int, retried: str | None = None
) -> Generator[SeenFile]:
    """The files of the documents present, as the last scan saw them. They come in pieces, because there may be a million.

    Close it after its use: until then no other statement of the connection runs, not even a rollback.

    Files whose bytes must be read again, though their state may be the same, have the size -1, which no file has. These are
    files that were written just before they were read, and those that were not read for a reason that begins with `reason` (of
    at most `most` bytes) or `retried`. `at` is the present time, by the database's clock.
    """
    is_settled = _is_settled("%(at)s::timestamptz")
    is_too_large_no_more = "starts_with(unreadable, %(reason)s) and size <= %(most)s"
    is_to_be_read = f"coalesce(({is_too_large_no_more}) or starts_with(unreadable, %(retried)s), false)"
    with cur.connection.cursor(row_factory=tuple_row) as files:
        yield from files.stream(
            f"select key, case when {is_settled} and not {is_to_be_read} then size else -1 end, mtime_ns, ctime_ns, "
            # An earlier release stored inodes of 64 bits; `seen_as` keeps the lower 63.
            "(case when inode < 9223372036854775808 then inode else inode - 9223372036854775808 end)::bigint "
            "from documents where is_present",
            {"at": at, "reason": reason, "most": most, "retried": retried},
            binary=True,
            size=FILES_AT_ONCE if psycopg.capabilities.has_stream_chunked() else 1,  # libpq 17 or later
        )


def is_settled_as(cur: Cursor, seen: SeenFile) -> bool:
    """Whether a scan that finds the document's file with this stat would not read its bytes again."""
    cur.execute(
        f"select from documents where key = %s and (size, mtime_ns, ctime_ns, inode) = (%s, %s, %s, %s) "
        f"and is_present and {_is_settled('now()')}",
        list(seen),
    )
    return cur.rowcount == 1


def known_documents(cur: Cursor, keys: Sequence[str]) -> list[KnownDocument]:
    """Those of `keys` that are in the ledger, present or gone."""
    cur.execute("select key, is_present, digest from documents where key = any(%s)", [list(keys)])
    return [KnownDocument(**row) for row in cur.fetchall()]


def present_keys(cur: Cursor) -> list[str]:
    """Keys of the documents present, in the order of their names: the Dagster partitions."""
    with cur.connection.cursor(row_factory=scalar_row) as plain:
        return plain.execute('select key from documents where is_present order by key collate "C"').fetchall()


def expired_keys(cur: Cursor, keys: Sequence[str]) -> list[str]:
    """Those of `keys`, the partitions without a document present, to remove now. To be called once a scan, with all of them.

    The key of a document that has just gone is removed at once. Any other was added by a person, who may be about to launch a
    run over it. It is kept for some minutes and scans, so that the run can say that there is no such document.
    """
    cur.execute("delete from typed_keys where key <> all(%s)", [list(keys)])
    limits = {"keys": list(keys), "minutes": KEPT_MINUTES, "scans": KEPT_SCANS}
    cur.execute(
        "select key from documents where key = any(%(keys)s) "
        "and gone_at > clock_timestamp() - make_interval(mins => %(minutes)s)",
        limits,
    )
    gone = [row["key"] for row in cur.fetchall()]
    cur.execute(
        "insert into typed_keys (key) select unnest(%s::text[]) on conflict (key) do update set scans = typed_keys.scans + 1",
        [sorted(set(keys) - set(gone))],
    )
    cur.execute(
        "delete from typed_keys where scans > %(scans)s "
        "and first_seen <= clock_timestamp() - make_interval(mins => %(minutes)s) returning key",
        limits,
    )
    return gone + [row["key"] for row in cur.fetchall()]


def newest_sizes(cur: Cursor, most: int) -> dict[str, int]:
    """The sizes in bytes of the newest documents that are present and could be read, by key."""
    cur.execute(
        "select key, size from documents where is_present and digest is not null order by document_id desc limit %s",
        [most],
    )
    return {row["key"]: row["size"] for row in cur.fetchall()}


def has_documents(cur: Cursor) -> bool:
    """Whether the ledger has ever seen a document."""
    return cur.execute("select 1 from documents limit 1").fetchone() is not None


def has_present(cur: Cursor) -> bool:
    """Whether the ledger has a document that is present."""
    return cur.execute("select 1 from documents where is_present limit 1").fetchone() is not None


def missing_keys(cur: Cursor, keys: Sequence[str]) -> list[str]:
    """Those of `keys` that are not the key of a document present."""
    cur.execute(
        "select k.key from unnest(%s::text[]) as k(key) "
        "where not exists (select 1 from documents d where d.key = k.key and d.is_present)",
        [list(keys)],
    )
    return [row["key"] for row in cur.fetchall()]


def now(cur: Cursor) -> datetime:
    """The time of the database's clock."""
    current: datetime = fetch_one(cur, "select clock_timestamp() as now")["now"]
    return current


def store_new(
    cur: Cursor, files: Sequence[tuple[FileStat, str]], recipes: Mapping[str, str], looked_at: datetime
) -> None:
    """`store` for files (each with its digest) that are not in the ledger, in one or two statements however many."""
    cur.execute(
        """
        with f as (
            select * from unnest(%(keys)s::text[], %(digests)s::text[], %(sizes)s::bigint[], %(mtimes)s::bigint[],
                %(ctimes)s::bigint[], %(inodes)s::numeric[])
                with ordinality as f (key, digest, size, mtime_ns, ctime_ns, inode, place)
        ), stored as (
            insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at)
            select key, digest, size, mtime_ns, ctime_ns, inode, %(looked_at)s from f order by place
            on conflict (key) do nothing returning document_id, key, digest, priority
        ), started as (
            insert into work_items (document_id, stage, state, input_digest, priority)
            select document_id, first_stage(), 'pending', digest, priority from stored order by document_id
            returning item_id, document_id, stage
        ), announced as (
            insert into transitions (document_id, stage, to_state, reason)
            select document_id, stage, 'pending', 'new content' from started order by document_id
        )
        select key, item_id from stored join started using (document_id)
        """,
        {
            "keys": [file.key for file, _ in files],
            "digests": [digest for _, digest in files],
            "sizes": [file.size for file, _ in files],
            "mtimes": [file.mtime_ns for file, _ in files],
            "ctimes": [file.ctime_ns for file, _ in files],
            "inodes": [file.inode for file, _ in files],
            "looked_at": looked_at,
        },
        prepare=False,  # a plan made while the tables are empty would read all of them
    )
    stored = {row["key"]: row["item_id"] for row in cur.fetchall()}
    complete_by_reuse(cur, list(stored.values()), recipes)
    for file, digest in files:
        if file.key not in stored:  # another scan stored it first
            store(cur, file, digest, None, recipes, looked_at)


def store(
    cur: Cursor,
    stat: FileStat,
    digest: str | None,
    unreadable: str | None,
    recipes: Mapping[str, str],
    looked_at: datetime,
) -> None:
    """Store a file that is new, changed or back: its stat, its digest, and an extract item for them.

    `looked_at` is a time just before the stat was taken, by the database's clock.
    If the digest is unchanged, the work items stay as they are. Otherwise extract starts again, later items are removed, and
    results are kept. A file that cannot be read fails with the reason `unreadable`.
    """
    # Not `for update`: that could deadlock with a lane that finishes. It has locked the work items that are locked next here,
    # and its event refers to this document.
    before = cur.execute(
        "select document_id, digest, unreadable, is_present from documents where key = %s for no key update", [stat.key]
    ).fetchone()
    row = fetch_one(
        cur,
        "insert into documents (key, digest, size, mtime_ns, ctime_ns, inode, digested_at, unreadable) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (key) do update set "
        "  digest = excluded.digest, size = excluded.size, mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, "
        "  inode = excluded.inode, digested_at = excluded.digested_at, unreadable = excluded.unreadable, "
        "  is_present = true, gone_at = null returning document_id",
        [stat.key, digest, stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, looked_at, unreadable],
    )
    same_as_before = before is not None and before["is_present"] and before["digest"] == digest
    if same_as_before and (before or {}).get("unreadable") == unreadable:
        return
    if before is not None and before["digest"] not in (None, digest):
        corrections.bring_up_for_review(cur, row["document_id"], before["digest"], digest)
    _start_extract(cur, row["document_id"], digest, unreadable, recipes)


def _start_extract(
    cur: Cursor, document_id: int, digest: str | None, unreadable: str | None, recipes: Mapping[str, str]
) -> None:
    cur.execute(
        "delete from work_items where document_id = %s and stage <> first_stage() returning stage, state", [document_id]
    )
    for removed in cur.fetchall():
        record_transition(cur, document_id, removed["stage"], removed["state"], "removed", None, "new content")
    state = State.PENDING if unreadable is None else State.FAILED
    before = cur.execute(
        "select state from work_items where document_id = %s and stage = first_stage() for update", [document_id]
    ).fetchone()
    item = fetch_one(
        cur,
        "insert into work_items (document_id, stage, state, input_digest, reason, priority) "
        "select %(id)s, first_stage(), %(state)s, %(digest)s, %(reason)s, priority from documents where document_id = %(id)s "
        "on conflict (document_id, stage) do update set state = excluded.state, input_digest = excluded.input_digest, "
        "  reason = excluded.reason, attempts = 0, deferrals = 0, reclaims = 0, lone_deaths = 0, must_run_alone = false, "
        "  is_redo = false, not_before = null, parts_done = 0, parts_total = null, priority = excluded.priority, "
        "  changed_at = clock_timestamp() returning item_id, stage",
        {"id": document_id, "state": state, "digest": digest, "reason": unreadable},
    )
    was = None if before is None else before["state"]
    record_transition(cur, document_id, item["stage"], was, state, None, unreadable or "new content")
    if digest is not None and unreadable is None:
        complete_by_reuse(cur, [item["item_id"]], recipes)


def mark_gone(cur: Cursor, keys: Sequence[str], reason: str = "the file is gone") -> None:
    """Mark these documents as gone: their work stops, their results are kept."""
    cur.execute(
        "update documents set is_present = false, gone_at = clock_timestamp() "
        "where key = any(%s) and is_present returning document_id",
        [list(keys)],
    )
    ids = [row["document_id"] for row in cur.fetchall()]
    cur.execute(
        "update work_items w set state = 'gone', reason = %s, changed_at = clock_timestamp() "
        "from work_items old "
        "where w.document_id = any(%s) and old.item_id = w.item_id and w.state <> 'gone' "
        "returning w.document_id, w.stage, old.state as from_state",
        [reason, ids],
    )
    for row in cur.fetchall():
        record_transition(cur, row["document_id"], row["stage"], row["from_state"], State.GONE, None, reason)


@dataclass(frozen=True)
class WaitingForText:
    """Documents whose text is neither extracted nor failed: how many, and the reasons of some of them, by key."""

    count: int
    reasons: dict[str, str]


def waiting_for_text(cur: Cursor, most: int) -> WaitingForText:
    """Documents that wait for their text, for example for another attempt, with up to `most` reasons."""
    waits = "i.stage = (select first_stage()) and i.state in ('pending', 'claimed', 'deferred')"
    row = fetch_one(cur, f"select coalesce(sum(i.n), 0)::bigint as n from item_counts i where {waits}")
    cur.execute("set local enable_seqscan = off")  # a plan that expects many of them would read all items to find few
    cur.execute(
        "select d.key, coalesce(i.reason, 'not read yet') as reason from ("
        f"  select i.item_id, i.document_id, i.reason from work_items i where {waits} limit %s) i "
        "join documents d using (document_id) order by i.item_id",
        [most],
    )
    return WaitingForText(int(row["n"]), {found["key"]: found["reason"] for found in cur.fetchall()})


def replace_unusable_names(cur: Cursor, names: Sequence[UnusableName]) -> None:
    """Replace the list of files whose names cannot be document keys by that of the last scan."""
    cur.execute("delete from unusable_names")
    for unusable in names:
        cur.execute(
            "insert into unusable_names (name, reason) values (%s, %s) on conflict do nothing",
            [unusable.name, unusable.reason],
        )


def begin_scan(cur: Cursor) -> int:
    """Record the start of a scan; returns its id."""
    row = fetch_one(cur, "insert into scans default values returning scan_id")
    return int(row["scan_id"])


def end_scan(cur: Cursor, scan_id: int, *, found: int, added: int, changed: int, vanished: int, returned: int) -> None:
    """Record the end of a scan with its counts of files. Long texts that have waited for a day get their turn."""
    cur.execute("select let_long_texts_in()")
    cur.execute(
        "update scans set ended_at = clock_timestamp(), found = %s, added = %s, changed = %s, vanished = %s, "
        "returned = %s where scan_id = %s",
        [found, added, changed, vanished, returned, scan_id],
    )
