"""Deliveries: one version of a document's record for one sink, until it has arrived.

At least once, in the order of the versions of a document. A delivery stays pending until its sink has answered, so a sender
that is killed repeats at most the one it had in hand, with the same key. One that its sink did not take is superseded by a newer
version: the newer one is what people want there, and must not wait for a record that they may have corrected.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core.database import Cursor, fetch_one
from dagster_offload.ledger.sinks.sinks import note_change


@dataclass(frozen=True)
class Delivery:
    """A delivery that is due. `written` is what this sink wrote for the document's last record that arrived.

    `maybe_written` is what an attempt that failed since then was about to write. `key` is the same at each attempt. `digest` is
    the SHA-256 of the document's file. `attempts` counts refusals. `is_behind_others`: others have gone first while it waited for
    this try.
    """

    delivery_id: int
    key: str
    sink: str
    document: str
    digest: str | None
    version: str
    record: dict[str, Any]
    attempts: int
    is_behind_others: bool
    written: dict[str, Any] | None
    maybe_written: dict[str, Any] | None


def lock_planning(cur: Cursor) -> None:
    """Let no other process plan deliveries before this transaction ends."""
    cur.execute("select pg_advisory_xact_lock(hashtext('sinks'), hashtext(current_schema()))")


def take_changes(cur: Cursor, limit: int) -> dict[str, list[int]]:
    """Take the oldest changes off the list. Returns the ids of their documents, by each sink that is to look at them."""
    cur.execute(
        "with oldest as materialized (select change_id from changed_records order by change_id limit %s), "
        "taken as (delete from changed_records c using oldest where c.change_id = oldest.change_id returning c.*) "
        "select s.name, array_agg(distinct t.document_id order by t.document_id) "
        "  filter (where t.change_id > s.changes_after) as documents from taken t cross join sinks s group by s.name",
        [limit],
    )
    return {row["name"]: row["documents"] or [] for row in cur.fetchall()}


def next_unfilled(cur: Cursor, limit: int) -> dict[str, list[int]]:
    """By sink, the next documents that it must look at because it was added or stages were removed. Marks them as looked at."""
    cur.execute(
        "select name, filled_to, removed_stages, wants_after from sinks where is_configured and filled_to is not null "
        "order by name for update"
    )
    found: dict[str, list[int]] = {}
    for row in cur.fetchall():
        cur.execute(
            "select document_id from documents where document_id > %s order by document_id limit %s",
            [row["filled_to"], limit],
        )
        ids = [each["document_id"] for each in cur.fetchall()]
        found[row["name"]] = ids if row["removed_stages"] is None else _changed_by_removal(cur, row, ids)
        end = ids[-1] if len(ids) == limit else None
        cur.execute(
            "update sinks set filled_to = %(end)s, "
            "removed_stages = case when %(end)s::bigint is not null then removed_stages end where name = %(name)s",
            {"end": end, "name": row["name"]},
        )
    return found


def _changed_by_removal(cur: Cursor, sink: Mapping[str, Any], ids: Sequence[int]) -> list[int]:
    """Of these documents, those whose records a removed stage kept back, and those that this sink has had with its answer.

    The others are no business of this sink: it may want no record that existed when it was added. So does a record that was
    complete then, although a stage that was added and removed since kept it back.
    """
    cur.execute(
        "select c.document_id from unnest(%(ids)s::bigint[]) as c (document_id) where exists (select from work_items i "
        "  where i.document_id = c.document_id and i.stage = any(%(stages)s) and i.state <> 'done') "
        "and (%(wants_after)s::timestamptz is null or exists (select from work_items d "
        "  where d.document_id = c.document_id and d.state = 'done' and d.changed_at > %(wants_after)s)) "
        "or exists (select from deliveries n where n.document_id = c.document_id and n.sink = %(sink)s)",
        {
            "ids": list(ids),
            "stages": sink["removed_stages"],
            "sink": sink["name"],
            "wants_after": sink["wants_after"],
        },
    )
    return [row["document_id"] for row in cur.fetchall()]


def add(cur: Cursor, sink: str, document: str, version: str, record: Mapping[str, Any]) -> None:
    """Add a delivery, unless the newest one of this document for this sink has the same version.

    It supersedes those that the sink did not take. One of them may be in a sender's hand: it stays, and may still arrive.
    """
    cur.execute(
        "with newest as (insert into deliveries (sink, document_id, version, record) "
        "select %(sink)s, d.document_id, %(version)s, %(record)s from documents d where d.key = %(key)s "
        "and %(version)s is distinct from (select n.version from deliveries n "
        "  where n.document_id = d.document_id and n.sink = %(sink)s order by n.delivery_id desc limit 1) returning *) "
        "update deliveries o set state = 'superseded', record = null, not_before = null from newest "
        "where o.document_id = newest.document_id and o.sink = newest.sink "
        "and (o.state = 'dead' or o.state = 'pending' and o.reason is not null)",
        {"sink": sink, "key": document, "version": version, "record": Jsonb(dict(record))},
    )


def keys_of(cur: Cursor, document_ids: Sequence[int]) -> dict[int, str]:
    """The keys of these documents, by id."""
    cur.execute("select document_id, key from documents where document_id = any(%s)", [list(document_ids)])
    return {row["document_id"]: row["key"] for row in cur.fetchall()}


# The oldest version of its document that has not arrived, at a sink that takes records now. The sink is named by the parameter,
# not by `n`: so Postgres looks at it once, and reads no delivery of a sink that waits.
_MAY_GO = (
    "n.sink = %(sink)s and n.state = 'pending' and not exists (select from deliveries o "
    "  where o.document_id = n.document_id and o.sink = n.sink and o.delivery_id < n.delivery_id and o.state = 'pending') "
    "and exists (select from sinks s where s.name = %(sink)s and s.is_configured and s.paused_at is null "
    "  and (s.not_before is null or s.not_before <= clock_timestamp()))"
)


def next_due(cur: Cursor, sink: str) -> Delivery | None:
    """The delivery of a sink that is due: the oldest one that was never refused, else one whose pause is over.

    None if there is none, or if the sink is paused or waits.
    """
    cur.execute(
        "with due as ("
        f"  (select n.* from deliveries n where n.not_before is null and {_MAY_GO} order by n.delivery_id limit 1) union all "
        f"  (select n.* from deliveries n where n.not_before <= clock_timestamp() and {_MAY_GO} order by n.not_before limit 1)"
        ") select due.delivery_id, delivery_key(due.delivery_id, due.version) as key, due.sink, d.key as document, d.digest, "
        "  due.version, due.record, due.attempts, due.not_before is not null as is_behind_others, "
        "  (select l.written from deliveries l where l.document_id = due.document_id and l.sink = due.sink "
        "   and l.state = 'sent' order by l.delivery_id desc limit 1) as written, "
        # A superseded version before this one may have got so far, too.
        "  (select l.written from deliveries l where l.document_id = due.document_id and l.sink = due.sink "
        "   and l.state <> 'sent' and l.written is not null and l.delivery_id <= due.delivery_id "
        "   order by l.delivery_id desc limit 1) as maybe_written "
        "from due join documents d using (document_id) order by due.not_before nulls first limit 1",
        {"sink": sink},
    )
    row = cur.fetchone()
    return None if row is None else Delivery(**row)


def seconds_to_next(cur: Cursor, sink: str) -> float | None:
    """After `next_due` found none: in how many seconds one is due; None if none is, as long as nothing changes."""
    row = fetch_one(
        cur,
        "select extract(epoch from case when s.not_before > clock_timestamp() then s.not_before else ("
        "    select min(n.not_before) from deliveries n "
        "    where n.sink = s.name and n.state = 'pending' and n.not_before is not null) end - clock_timestamp()"
        "  )::double precision as seconds "
        "from (select 1) one left join sinks s on s.name = %s and s.is_configured and s.paused_at is null",
        [sink],
    )
    return None if row["seconds"] is None else max(float(row["seconds"]), 0.0)


def will_write(cur: Cursor, delivery_id: int, values: Mapping[str, Any]) -> None:
    """The sink is about to write these values elsewhere. If it fails then, the next attempt knows what may be its own."""
    cur.execute(
        "update deliveries set written = %s where delivery_id = %s and state <> 'sent'",
        [Jsonb(dict(values)), delivery_id],
    )


def mark_sent(cur: Cursor, delivery: Delivery, written: Mapping[str, Any] | None) -> None:
    """The record has arrived. Earlier deliveries of the document to this sink are history and are removed."""
    cur.execute(
        "update deliveries n set state = 'sent', record = null, reason = null, not_before = null, written = %s, "
        "changed_at = clock_timestamp() from deliveries earlier where n.delivery_id = %s "
        "and earlier.delivery_id = n.delivery_id returning earlier.reason",
        [None if written is None else Jsonb(dict(written)), delivery.delivery_id],
    )
    row = cur.fetchone()
    if row is not None and row["reason"] is not None:  # it was refused before
        note_change(cur, delivery.sink)
    cur.execute(
        "delete from deliveries n using deliveries newest where newest.delivery_id = %s and n.sink = newest.sink "
        "and n.document_id = newest.document_id and n.delivery_id < newest.delivery_id",
        [delivery.delivery_id],
    )


def refuse(cur: Cursor, delivery_id: int, reason: str, seconds: float | None, *, counts: bool) -> None:
    """The sink did not take the record: it is tried again in so many seconds, or is dead if `seconds` is None.

    A record with a newer one behind it is superseded. `counts`: it is an attempt of the record. Does nothing if another host has
    sent it meanwhile.
    """
    cur.execute(
        "update deliveries n set attempts = n.attempts + %(counts)s, reason = %(reason)s, changed_at = clock_timestamp(), "
        "state = t.state, record = case when t.state <> 'superseded' then n.record end, "
        "not_before = case when t.state = 'pending' then clock_timestamp() + make_interval(secs => %(seconds)s) end "
        "from (select o.delivery_id, case when exists (select from deliveries l where l.document_id = o.document_id "
        "    and l.sink = o.sink and l.delivery_id > o.delivery_id) then 'superseded' "
        "  when %(seconds)s::float8 is null then 'dead' else 'pending' end as state from deliveries o "
        "  where o.delivery_id = %(id)s) t where n.delivery_id = t.delivery_id and n.state = 'pending'",
        {"counts": int(counts), "reason": reason, "seconds": seconds, "id": delivery_id},
    )


def revive(cur: Cursor, sink: str, documents: Sequence[str] | None = None) -> int:
    """Try the deliveries that a sink refused again, as if they were new; returns how many.

    They are the dead ones and those that wait for their next try.
    """
    cur.execute(
        "update deliveries n set state = 'pending', attempts = 0, not_before = null, changed_at = clock_timestamp() "
        "where n.sink = %(sink)s and (n.state = 'dead' or n.state = 'pending' and n.not_before is not null) "
        "and (%(documents)s::text[] is null "
        "  or n.document_id in (select document_id from documents where key = any(%(documents)s)))",
        {"sink": sink, "documents": None if documents is None else list(documents)},
    )
    return cur.rowcount


@dataclass(frozen=True)
class DeliveryState:
    """What became of a document's record at one sink. `reason` is of the last attempt that failed."""

    sink: str
    state: str
    attempts: int
    reason: str | None
    changed_at: datetime


def of_document(cur: Cursor, document: str) -> list[DeliveryState]:
    """The deliveries of a document that are kept: the last that arrived, and all that have not."""
    cur.execute(
        "select n.sink, n.state, n.attempts, coalesce(n.reason, case when n.state = 'pending' then s.reason end) as reason, "
        "n.changed_at from deliveries n join documents d using (document_id) join sinks s on s.name = n.sink "
        "where d.key = %s order by n.sink, n.delivery_id",
        [document],
    )
    return [DeliveryState(**row) for row in cur.fetchall()]
