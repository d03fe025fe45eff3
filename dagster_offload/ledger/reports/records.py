"""The records of documents: which documents match, and what each of their stages answered."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from psycopg.rows import scalar_row

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.work.corrections import HAS_CORRECTIONS, IS_APPLICABLE

Operator = Literal["=", "!=", ">=", "<=", ">", "<", "~"]
# How a value is compared with that of a record. Times: `day` and `clock` with the date and the clock time as the record states
# them; `moment` as moments, and a record without an offset counts as UTC.
Kind = Literal["text", "number", "boolean", "day", "clock", "moment"]

# The state of a document as a whole: the first of these that one of its work items has.
STATES = ("failed", "quarantined", "deferred", "claimed", "pending", "done")


@dataclass(frozen=True)
class Condition:
    """A condition on one field of a stage's record, or of the document if `stage` is None. `~` means: contains.

    `kind` is how values are compared. Dates without a time are compared as text, which has the same order.

    A document without a value meets none of them, except `=` with an empty value: the field has none.
    """

    stage: str | None
    field: str
    operator: Operator
    value: str
    kind: Kind = "text"


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
    """One stage of a document. `value` is its record, in which a person's corrections count; None without one.

    `corrected` are the fields that a person corrected. `at` is when the model answered.
    """

    state: str
    outcome: str | None
    reason: str | None
    value: dict[str, Any] | None
    served_model: str | None
    model_evidence: str | None
    at: datetime | None
    corrected: tuple[str, ...] = ()


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


def select(cur: Cursor, selection: Selection, most: int | None = None) -> "array[int]":
    """The ids of the documents that match, or of the first `most` of them, in the order of their keys. 8 bytes each."""
    where = ["d.is_present"]
    parameters: list[object] = []
    for condition in selection.conditions:
        where.append(_matches(condition))
        parameters += [] if condition.stage is None else [condition.field, condition.stage]
        parameters.append(condition.value)
    if selection.states:
        where.append(f"({_STATE}) = any(%s)")
        parameters.append(list(selection.states))
    if selection.changed_since is not None:
        where.append("(exists (select from work_items i where i.document_id = d.document_id and i.changed_at >= %s))")
        parameters.append(selection.changed_since)
    if selection.documents is not None:
        where.append("d.key = any(%s)")
        parameters.append(list(selection.documents))
    for word in selection.words:
        where.append(_CONTAINS)
        parameters += [_like(word)] * 3
    query = f'select d.document_id from documents d where {" and ".join(where)} order by d.key collate "C" limit %s'
    with cur.connection.cursor(row_factory=scalar_row) as plain:
        return array("q", plain.execute(query.encode(), [*parameters, most]))


# The record of a work item `i` of a document `d` with its result `r`, with a person's corrections.
_RECORD = f"case when {HAS_CORRECTIONS} and {IS_APPLICABLE} then corrected(r.value, d.digest, i.stage) else r.value end"


def values_of(cur: Cursor, stage: str, documents: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The records of one stage for these documents with a person's corrections, by document, without those that have none."""
    cur.execute(
        f"select d.key, {_RECORD} as value from documents d join work_items i using (document_id) "
        "join results r using (result_id) "
        "where d.is_present and i.stage = %s and i.state = 'done' and i.outcome = 'ok' and d.key = any(%s)",
        [stage, list(documents)],
    )
    return {row["key"]: row["value"] for row in cur.fetchall()}


_STATE = (
    "select case " + " ".join(f"when bool_or(i.state = '{state}') then '{state}'" for state in STATES) + " end "
    "from work_items i where i.document_id = d.document_id and i.stage in (select name from stages)"
)
# What a condition can compare of a document `d` itself, by the names of the columns. `corrected` names fields as `stage.field`.
OF_DOCUMENT = {
    "document": "d.key",
    "state": f"coalesce(({_STATE}), 'pending')",
    "reason": (
        "(select i.reason from work_items i join stages s on s.name = i.stage where i.document_id = d.document_id "
        f"and i.state = ({_STATE}) and i.reason is not null order by s.position limit 1)"
    ),
    "outcome": "(select i.outcome from work_items i where i.document_id = d.document_id and i.stage = 'extract')",
    "served_model": (
        "(select r.served_model from work_items i join stages s on s.name = i.stage join results r using (result_id) "
        "where i.document_id = d.document_id and r.served_model is not null order by r.created_at desc limit 1)"
    ),
    "corrected": f"(case when {HAS_CORRECTIONS} then corrected_fields(d.document_id) end)",
}
_CONTAINS = (
    "(d.key ilike %s or exists (select from work_items i join stages s on s.name = i.stage "
    "join results r using (result_id) where i.document_id = d.document_id and (r.text ilike %s "
    # Not the JSON as text: it holds the names of fields, and its quotation marks and backslashes are escaped.
    "or s.upstream is not null and exists (select from "
    f"jsonb_path_query({_RECORD}, 'strict $.**') as v (entry) "
    "where jsonb_typeof(v.entry) in ('string', 'number') and v.entry #>> '{}' ilike %s))))"
)


_OF_TIMES: Mapping[str, str] = {
    "day": "date_or_null(left({value}, 10)) {operator} %s::date",
    "clock": r"time_or_null(regexp_replace({value}, '(Z|[+-]\d\d:?\d\d)$', '')) {operator} %s::timestamptz",
    "moment": "time_or_null({value}) {operator} %s::timestamptz",
}


def _matches(condition: Condition) -> str:
    if condition.operator in ("=", "!=") and not condition.value:
        # Answers hold no empty texts. The value itself stays a parameter of the query.
        test = "jsonb_typeof(x.v) <> 'null' and x.v <> '[]' and %s = ''"
    elif condition.kind == "boolean":
        test = f"jsonb_typeof(x.v) = 'boolean' and x.v {'<>' if condition.operator == '!=' else '='} %s::jsonb"
    elif condition.kind == "number":
        test = (
            f"case when jsonb_typeof(x.v) = 'number' then x.v::numeric {condition.operator} %s::numeric else false end"
        )
    elif condition.kind in _OF_TIMES:
        test = _OF_TIMES[condition.kind].format(value="(x.v #>> '{}')", operator=condition.operator)
    elif condition.operator == "~":
        test = "strpos(lower(normalize(x.v #>> '{}')), lower(%s)) > 0"
    elif condition.operator == "=":
        test = "in_nfc(x.v) @> to_jsonb(%s::text)"  # a list matches if one of its entries does
    elif condition.operator == "!=":
        test = "jsonb_typeof(x.v) <> 'null' and not in_nfc(x.v) @> to_jsonb(%s::text)"
    else:
        test = f"x.v #>> '{{}}' {condition.operator} %s"
    if condition.stage is None:
        found = f"exists (select from (select to_jsonb({OF_DOCUMENT[condition.field]}) as v) x where {test})"
    else:
        found = (
            "exists (select from work_items i left join results r using (result_id), "
            f"lateral (select ({_RECORD}) -> %s as v) x "
            f"where i.document_id = d.document_id and i.stage = %s and {test})"
        )
    return f"not {found}" if condition.operator == "=" and not condition.value else found


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
        f"    'reason', i.reason, 'value', case when s.upstream is not null then {_RECORD} end, "
        f"    'corrected', case when {HAS_CORRECTIONS} then corrected_fields(d.document_id, i.stage) end, "
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


def answers_of(cur: Cursor, keys: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The records of these documents with a person's corrections, by document and stage, without stages that have none."""
    cur.execute(
        f"select d.key, i.stage, {_RECORD} as value from documents d join work_items i using (document_id) "
        "join stages s on s.name = i.stage join results r using (result_id) "
        "where d.key = any(%s) and d.is_present and s.upstream is not null",
        [list(keys)],
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in cur.fetchall():
        if row["value"] is not None:
            found.setdefault(row["key"], {})[row["stage"]] = row["value"]
    return found


def _stage(fields: dict[str, Any]) -> StageState:
    at = fields["at"]
    typed = {"at": None if at is None else datetime.fromisoformat(at), "corrected": tuple(fields["corrected"] or ())}
    return StageState(**{**fields, **typed})
