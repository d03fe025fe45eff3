"""Corrections: what a person says about a field of a record. It counts in records, views, exports and conditions.

A correction belongs to the bytes of the file for which it was made. Once that file changes, the correction no longer counts,
and waits for a review: `keep` makes it count for the new bytes, `clear` ends it.
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


@dataclass(frozen=True)
class Correction:
    """One corrected field. `answered` is the model's value for the present bytes; None if it gave none.

    `is_for_review`: the file has changed since, so the correction does not count.
    """

    document: str
    stage: str
    field: str
    value: Any
    answered: Any
    note: str | None
    corrected_at: datetime
    is_for_review: bool


@dataclass(frozen=True)
class NewValue:
    """A person's value for a field, as JSON."""

    stage: str
    field: str
    value: Any


def correct(
    cur: Cursor, document: str, values: Sequence[NewValue], note: str | None, recipes: Mapping[str, str]
) -> bool:
    """Store these values for the document's present bytes. Returns False if no file of that name was read."""
    found = _document(cur, document)
    if found is None:
        return False
    for each in values:
        cur.execute(
            "insert into corrections (digest, stage, field, value, note, document_id) values (%s, %s, %s, %s, %s, %s) "
            "on conflict (digest, stage, field) do update set value = excluded.value, note = excluded.note, "
            "document_id = excluded.document_id, corrected_at = clock_timestamp()",
            [found["digest"], each.stage, each.field, Jsonb(each.value), note, found["document_id"]],
        )
        _end_review(cur, found["document_id"], found["digest"], each.stage, each.field)
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
        ended.append(cur.rowcount + _end_review(cur, found["document_id"], found["digest"], stage, name) > 0)
    gone = [field for field, was_there in zip(fields, ended, strict=True) if was_there]
    _announce(cur, found["digest"], "correction ended by a person", gone, recipes)
    return ended


def keep(cur: Cursor, document: str, recipes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Let the corrections that wait for a review count for the document's present bytes. Returns their fields."""
    found = _document(cur, document)
    if found is None:
        return []
    cur.execute(
        "insert into corrections (digest, stage, field, value, note, document_id, corrected_at) "
        # The newest one, if the file changed twice before the review.
        "select distinct on (stage, field) %(digest)s, stage, field, value, note, document_id, corrected_at "
        "from corrections where document_id = %(id)s and digest <> %(digest)s order by stage, field, corrected_at desc "
        "on conflict (digest, stage, field) do nothing returning stage, field",
        {"digest": found["digest"], "id": found["document_id"]},
    )
    kept = [(row["stage"], row["field"]) for row in cur.fetchall()]
    cur.execute(
        "update corrections set document_id = null where document_id = %s and digest <> %s",
        [found["document_id"], found["digest"]],
    )
    _announce(cur, found["digest"], "correction kept by a person", kept, recipes)
    return kept


def list_corrections(cur: Cursor, document: str | None = None) -> list[Correction]:
    """The corrections of the documents present, or of one, in the order of their keys: those that count and those that
    wait for a review."""
    cur.execute(
        "select d.key as document, c.stage, c.field, c.value, r.value -> c.field as answered, c.note, c.corrected_at, "
        "  c.digest <> d.digest as is_for_review "
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
    "(select c.*, d.document_id as of_document from corrections c join documents d on d.digest = c.digest "
    "union select c.*, c.document_id from corrections c where c.document_id is not null) c "
    "join documents d on d.document_id = c.of_document"
)


def count_for_review(cur: Cursor) -> int:
    """How many documents present have a correction that was made for an earlier version of their file."""
    cur.execute(
        "select count(distinct d.document_id) as n from corrections c join documents d using (document_id) "
        "where d.is_present and d.digest is not null and c.digest <> d.digest"
    )
    row = cur.fetchone()
    return 0 if row is None else int(row["n"])


def _document(cur: Cursor, key: str) -> dict[str, Any] | None:
    return cur.execute(
        "select document_id, digest from documents where key = %s and is_present and digest is not null "
        "for no key update",
        [key],
    ).fetchone()


def _end_review(cur: Cursor, document_id: int, digest: str, stage: str, field: str) -> int:
    """A person has decided about the field: an earlier correction of it, for other bytes, no longer needs a review."""
    cur.execute(
        "update corrections set document_id = null where document_id = %s and digest <> %s and (stage, field) = (%s, %s)",
        [document_id, digest, stage, field],
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
