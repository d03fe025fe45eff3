"""Corrections: what a person says about a field of a record. It counts in records, views, exports and conditions.

A correction belongs to the bytes of the file for which it was made, and counts for every document that has them. Once the file
of one of these changes, the correction no longer counts for it, and waits for a review: `keep` makes it count for the new
bytes, `clear` ends it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Cursor

# Looked up once per query: a call of `corrected` for each row would take longer than the rest.
HAS_CORRECTIONS = "(select exists (select from corrections))"
# Whether a person's corrections count for a work item `i`. A stage whose condition is not met shows nothing of itself: they are
# kept for the time when it is met again.
IS_APPLICABLE = "(i.state, i.outcome) is distinct from ('done', 'not_applicable')"


@dataclass(frozen=True)
class Correction:
    """One corrected field. `answered` is the model's value for the present bytes; None if it gave none.

    `is_for_review`: the file has changed since, so the correction does not count. `is_applicable`: false while the condition of
    its stage is not met, so it does not count either.
    """

    document: str
    stage: str
    field: str
    value: Any
    answered: Any
    note: str | None
    corrected_at: datetime
    is_for_review: bool
    is_applicable: bool


@dataclass(frozen=True)
class NewValue:
    """A person's value for a field, as JSON."""

    stage: str
    field: str
    value: Any


def correct(
    cur: Cursor, document: str, values: Sequence[NewValue], note: str | None, recipes: Mapping[str, str]
) -> bool:
    """Store these values for the document's present bytes. Returns False if no file of that name was read.

    Without a note, a value that is corrected to the same again keeps its own.
    """
    found = _document(cur, document)
    if found is None:
        return False
    for each in values:
        cur.execute(
            "insert into corrections (digest, stage, field, value, note) values (%(digest)s, %(stage)s, %(field)s, %(value)s, "
            "  coalesce(%(note)s, (select c.note from corrections c "
            "    where (c.stage, c.field, c.value) = (%(stage)s, %(field)s, %(value)s) and (c.digest = %(digest)s or "
            "      c.digest in (select v.digest from reviews v where v.document_id = %(document_id)s "
            "        and (v.stage, v.field) = (c.stage, c.field))) "
            "    order by c.corrected_at desc limit 1))) "
            "on conflict (digest, stage, field) do update set value = excluded.value, note = excluded.note, "
            "corrected_at = clock_timestamp()",
            {**found, "stage": each.stage, "field": each.field, "value": Jsonb(each.value), "note": note},
        )
        _end_review(cur, found["document_id"], each.stage, each.field)
    _announce(cur, found["digest"], "corrected by a person", [(each.stage, each.field) for each in values], recipes)
    return True


def clear(cur: Cursor, document: str, fields: Sequence[tuple[str, str]], recipes: Mapping[str, str]) -> list[bool]:
    """End the corrections of these fields (stage and name). Returns for each whether there was one."""
    found = _document(cur, document)
    if found is None:
        return [False] * len(fields)
    ended = []
    for stage, name in fields:
        cur.execute(
            "delete from corrections where (digest, stage, field) = (%s, %s, %s)", [found["digest"], stage, name]
        )
        ended.append(cur.rowcount + _end_review(cur, found["document_id"], stage, name) > 0)
    gone = [field for field, was_there in zip(fields, ended, strict=True) if was_there]
    _announce(cur, found["digest"], "correction ended by a person", gone, recipes)
    return ended


def keep(cur: Cursor, document: str, recipes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Let the corrections that wait for a review count for the document's present bytes. Returns their fields."""
    found = _document(cur, document)
    if found is None:
        return []
    cur.execute(
        "insert into corrections (digest, stage, field, value, note, corrected_at) "
        # The newest one, if the file changed twice before the review.
        "select distinct on (c.stage, c.field) %(digest)s, c.stage, c.field, c.value, c.note, c.corrected_at "
        "from reviews v join corrections c using (digest, stage, field) "
        "where v.document_id = %(document_id)s and v.digest <> %(digest)s order by c.stage, c.field, c.corrected_at desc "
        "on conflict (digest, stage, field) do nothing returning stage, field",
        found,
    )
    kept = [(row["stage"], row["field"]) for row in cur.fetchall()]
    cur.execute("delete from reviews where document_id = %s", [found["document_id"]])
    _announce(cur, found["digest"], "correction kept by a person", kept, recipes)
    return kept


def bring_up_for_review(cur: Cursor, document_id: int, before: str, now: str | None) -> None:
    """The document's file has changed, from the digest `before` to `now`: its corrections wait for a review.

    A field that is corrected for the new bytes already, for example those of a copy, needs none.
    """
    cur.execute(
        "insert into reviews (document_id, digest, stage, field) "
        "select %(document)s, c.digest, c.stage, c.field from corrections c where c.digest = %(before)s and not exists ("
        "  select from corrections n where (n.digest, n.stage, n.field) = (%(now)s, c.stage, c.field)) "
        "on conflict do nothing",
        {"document": document_id, "before": before, "now": now},
    )


def list_corrections(cur: Cursor, document: str | None = None) -> list[Correction]:
    """The corrections of the documents present, or of one, in the order of their keys: those that count and those that
    wait for a review."""
    cur.execute(
        "select d.key as document, c.stage, c.field, c.value, r.value -> c.field as answered, c.note, c.corrected_at, "
        f"  c.digest <> d.digest as is_for_review, {IS_APPLICABLE} as is_applicable "
        f"from {_CORRECTED} "
        "left join work_items i on i.document_id = d.document_id and i.stage = c.stage "
        "left join results r using (result_id) "
        "where d.is_present and d.digest is not null and (%(key)s::text is null or d.key = %(key)s) "
        'order by d.key collate "C", c.stage, c.field, c.corrected_at',
        {"key": document},
    )
    return [Correction(**row) for row in cur.fetchall()]


# Two joins: with `or`, Postgres compares each correction with each document.
_CORRECTED = (
    "(select c.*, d.document_id from corrections c join documents d using (digest) "
    "union select c.*, v.document_id from corrections c join reviews v using (digest, stage, field)) c "
    "join documents d using (document_id)"
)


def count_for_review(cur: Cursor) -> int:
    """How many documents present have a correction that was made for an earlier version of their file."""
    cur.execute(
        "select count(distinct d.document_id) as n from reviews v join documents d using (document_id) "
        "where d.is_present and d.digest is not null and v.digest <> d.digest"
    )
    row = cur.fetchone()
    return 0 if row is None else int(row["n"])


def _document(cur: Cursor, key: str) -> dict[str, Any] | None:
    return cur.execute(
        "select document_id, digest from documents where key = %s and is_present and digest is not null "
        "for no key update",
        [key],
    ).fetchone()


def _end_review(cur: Cursor, document_id: int, stage: str, field: str) -> int:
    """A person has decided about the field: an earlier correction of it, for other bytes, no longer needs a review."""
    cur.execute(
        "delete from reviews v using documents d where v.document_id = %s and d.document_id = v.document_id "
        "and v.digest <> d.digest and (v.stage, v.field) = (%s, %s)",
        [document_id, stage, field],
    )
    return cur.rowcount


def _announce(
    cur: Cursor, digest: str, what: str, fields: Sequence[tuple[str, str]], recipes: Mapping[str, str]
) -> None:
    """Record the change for every document with these bytes: in its history, as an event, and in stages that depend on it."""
    if not fields:
        return
    cur.execute(
        "with said as (select stage, string_agg(field, ', ') as names "
        "  from unnest(%(stages)s::text[], %(fields)s::text[]) as f (stage, field) group by stage), "
        "changed as (update work_items i set changed_at = clock_timestamp() from documents d, said "
        "  where d.digest = %(digest)s and d.is_present and i.document_id = d.document_id and i.stage = said.stage "
        "  returning i.*, said.names), "
        "moved as (insert into transitions (document_id, stage, from_state, to_state, reason) "
        "  select document_id, stage, state, state, %(what)s || ': ' || names from changed order by item_id), "
        "queued as (insert into outbox (result_id, document_id, stage, attempts, deferrals) "
        "  select result_id, document_id, stage, attempts, deferrals from changed where state = 'done' order by item_id) "
        "select coalesce(array_agg(distinct document_id), '{}') as documents from changed",
        {
            "digest": digest,
            "what": what,
            "stages": [stage for stage, _ in fields],
            "fields": [name for _, name in fields],
        },
    )
    documents = [document for row in cur.fetchall() for document in row["documents"]]
    cur.execute("select note_record_changes(%s)", [documents])
    cur.execute(
        "select start_items(%(documents)s::bigint[], array_agg(name), null, %(recipes)s::jsonb) from stages "
        "where condition ?| %(stages)s::text[] having count(*) > 0",
        {
            "documents": documents,
            "stages": [stage for stage, _ in fields],
            "recipes": json.dumps(dict(recipes)),
        },
    )
    identity.refuse_moved(cur)  # after the first write that waits for a move that is under way
