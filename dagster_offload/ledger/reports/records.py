"""The records of documents: which documents match, and what each of their stages answered."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from dagster_offload.ledger.core.database import Cursor

Operator = Literal["=", "!=", ">=", "<=", ">", "<", "~"]

# The state of a document as a whole: the first of these that one of its work items has.
STATES = ("failed", "quarantined", "deferred", "claimed", "pending", "done")


@dataclass(frozen=True)
class Condition:
    """A condition on one field of a stage's record. `~` means: contains. Numbers are compared as numbers."""

    stage: str
    field: str
    operator: Operator
    value: str
    is_number: bool = False


@dataclass(frozen=True)
class Selection:
    """Which documents to read. The default is all that are present. `words` must all occur in a document or its records."""

    conditions: tuple[Condition, ...] = ()
    states: tuple[str, ...] = ()
    changed_since: datetime | None = None
    words: tuple[str, ...] = ()
    documents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StageState:
    """One stage of a document. `value` is its record; None without one. `at` is when it was answered."""

    state: str
    outcome: str | None
    reason: str | None
    value: dict[str, Any] | None
    served_model: str | None
    model_evidence: str | None
    at: datetime | None


@dataclass(frozen=True)
class DocumentRecord:
    """A document with the state of each of its stages, by name. `changed_at` is when any of them last changed."""

    document: str
    state: str
    stages: dict[str, StageState]
    changed_at: datetime | None
    text: str | None = field(default=None, repr=False)

    @property
    def reason(self) -> str | None:
        """Why the document is not done: the reason of the stage that decides its state."""
        return next((each.reason for each in self.stages.values() if each.state == self.state and each.reason), None)


def values_of(cur: Cursor, stage: str, documents: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The records of one stage for these documents, by document, without those that have none."""
    cur.execute(
        "select d.key, r.value from documents d join work_items i using (document_id) join results r using (result_id) "
        "where d.is_present and i.stage = %s and i.state = 'done' and i.outcome = 'ok' and d.key = any(%s)",
        [stage, list(documents)],
    )
    return {row["key"]: row["value"] for row in cur.fetchall()}


def select(cur: Cursor, selection: Selection) -> "array[int]":
    """The ids of the documents that match, in the order of their keys. 8 bytes each."""
    where, parameters = ["d.is_present"], []
    for condition in selection.conditions:
        where.append(_matches(condition))
        parameters += [condition.field, condition.stage, condition.value]
    if selection.states:
        where.append(f"({_STATE}) = any(%s)")
        parameters.append(list(selection.states))  # type: ignore[arg-type]
    if selection.changed_since is not None:
        where.append("(exists (select from work_items i where i.document_id = d.document_id and i.changed_at >= %s))")
        parameters.append(selection.changed_since)  # type: ignore[arg-type]
    if selection.documents is not None:
        where.append("d.key = any(%s)")
        parameters.append(list(selection.documents))  # type: ignore[arg-type]
    for word in selection.words:
        where.append(_CONTAINS)
        parameters += [_like(word)] * 3
    query = f'select d.document_id from documents d where {" and ".join(where)} order by d.key collate "C"'
    cur.execute(query.encode(), parameters)
    return array("q", (row["document_id"] for row in cur))


_STATE = (
    "select case " + " ".join(f"when bool_or(i.state = '{state}') then '{state}'" for state in STATES) + " end "
    "from work_items i where i.document_id = d.document_id and i.stage in (select name from stages)"
)
_CONTAINS = (
    "(d.key ilike %s or exists (select from work_items i join stages s on s.name = i.stage "
    "join results r using (result_id) where i.document_id = d.document_id and (r.text ilike %s "
    # Not the JSON as text: it holds the names of fields, and its quotation marks and backslashes are escaped.
    "or s.upstream is not null and exists (select from jsonb_path_query(r.value, 'strict $.**') as v (entry) "
    "where jsonb_typeof(v.entry) in ('string', 'number') and v.entry #>> '{}' ilike %s))))"
)


def _matches(condition: Condition) -> str:
    if condition.is_number:
        test = (
            f"case when jsonb_typeof(x.v) = 'number' then x.v::numeric {condition.operator} %s::numeric else false end"
        )
    elif condition.operator == "~":
        test = "strpos(lower(x.v #>> '{}'), lower(%s)) > 0"
    elif condition.operator in ("=", "!="):
        test = "x.v @> to_jsonb(%s::text)"  # a list matches if one of its entries does
    else:
        test = f"x.v #>> '{{}}' {condition.operator} %s"
    exists = (
        "exists (select from work_items i join results r using (result_id), lateral (select r.value -> %s as v) x "
        f"where i.document_id = d.document_id and i.stage = %s and {test})"
    )
    return f"not {exists}" if condition.operator == "!=" and not condition.is_number else exists


def _like(word: str) -> str:
    """The pattern for a part of a text: Korean words are found without their endings."""
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def read(cur: Cursor, ids: Sequence[int], *, with_text: bool = False) -> Iterator[DocumentRecord]:
    """The records of these documents, in this order. A document that is gone meanwhile is left out."""
    text = "max(r.text)" if with_text else "null"
    cur.execute(
        f"select d.document_id, d.key, ({_STATE}) as state, max(i.changed_at) as changed_at, {text} as text, "
        "  coalesce(jsonb_object_agg(i.stage, jsonb_build_object('state', i.state, 'outcome', i.outcome, "
        "    'reason', i.reason, 'value', case when s.upstream is not null then r.value end, "
        "    'served_model', r.served_model, 'model_evidence', r.model_evidence, 'at', r.created_at) order by s.position) "
        "    filter (where i.item_id is not null), '{}') as stages "
        "from documents d left join (work_items i join stages s on s.name = i.stage) using (document_id) "
        "left join results r on r.result_id = i.result_id "
        "where d.document_id = any(%s) and d.is_present group by d.document_id",
        [list(ids)],
    )
    found = {row["document_id"]: row for row in cur.fetchall()}
    for document_id in ids:
        row = found.get(document_id)
        if row is not None:
            stages = {name: _stage(fields) for name, fields in row["stages"].items()}
            yield DocumentRecord(row["key"], row["state"] or "pending", stages, row["changed_at"], row["text"])


def records_of(cur: Cursor, keys: Sequence[str]) -> dict[str, DocumentRecord]:
    """The records of these documents, by key."""
    cur.execute("select document_id from documents where key = any(%s)", [list(keys)])
    return {each.document: each for each in read(cur, [row["document_id"] for row in cur.fetchall()])}


def _stage(fields: dict[str, Any]) -> StageState:
    at = fields["at"]
    return StageState(**{**fields, "at": None if at is None else datetime.fromisoformat(at)})
