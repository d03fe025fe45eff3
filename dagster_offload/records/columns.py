"""The columns of a record: the built-in stages' fields by their own names, others as `stage.field`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.reports.records import OF_DOCUMENT, DocumentRecord
from dagster_offload.settings import Settings
from dagster_offload.stages.answers.answer_model import INTEGERS
from dagster_offload.stages.catalog import stage_graph
from dagster_offload.stages.graph import BUILT_IN, CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.stages.own import in_declared_order, record_columns
from dagster_offload.text.plain_text import escaped
from dagster_offload.text.suggestions import suggestion

# Columns of every record: these of the document, then those of its stages, then `LAST_COLUMNS`: how they were made.
DOCUMENT_COLUMNS = ("document", "path", "state", "reason", "outcome")


@dataclass(frozen=True)
class Column:
    """One column. `type` is string, number, integer, boolean, date, datetime or json (a list or an object)."""

    name: str
    type: str
    stage: str | None = None
    field: str | None = None


BUILT_IN_COLUMNS = (
    Column("category", "string", CLASSIFY, "category"),
    Column("confidence", "number", CLASSIFY, "confidence"),
    Column("language", "string", SUMMARIZE, "language"),
    Column("title", "string", SUMMARIZE, "title"),
    Column("summary", "string", SUMMARIZE, "summary"),
    Column("key_points", "json", SUMMARIZE, "key_points"),
    Column("doubtful", "json", SUMMARIZE, "doubtful"),
)

LAST_COLUMNS = (
    Column("served_model", "string"),
    Column("updated_at", "datetime"),
    Column("corrected", "json"),  # the columns that a person corrected
)


def columns(settings: Settings) -> tuple[Column, ...]:
    """All columns of this pipeline's records, in order."""
    own = [
        Column(f"{stage}.{name}", kind, stage, name)
        for stage in stage_graph(settings).names
        if stage in settings.own_stages
        for name, kind in record_columns(settings.own_stages[stage])
    ]
    first = [Column(name, "string") for name in DOCUMENT_COLUMNS]
    return (*first, *BUILT_IN_COLUMNS, *own, *LAST_COLUMNS)


def own_fields(settings: Settings) -> dict[str, list[str]]:
    """The fields of the stages of one's own, by stage, in order."""
    fields: dict[str, list[str]] = {}
    for column in columns(settings):
        if column.stage is not None and column.field is not None and column.stage in settings.own_stages:
            fields.setdefault(column.stage, []).append(column.field)
    return fields


def column_named(settings: Settings, name: str) -> Column:
    """The column of a stage's field. Raises `SettingsError` with the nearest name."""
    return named(name, {column.name: column for column in columns(settings) if column.stage is not None})


def named(name: str, known: Mapping[str, Column]) -> Column:
    """The column of this name. Raises `SettingsError` with the nearest name."""
    if name not in known:
        own = dict.fromkeys(column.stage for each, column in known.items() if each == f"{column.stage}.{column.field}")
        of_stage = [each for each, column in known.items() if column.stage == name.partition(".")[0]]
        near = of_stage or [each for each, column in known.items() if column.stage not in own]
        stages = ", ".join(map(str, own))
        more = f", or a field of a stage of your own as STAGE.FIELD (the stages are {stages})"
        raise SettingsError(
            f"records have no field {name!r}{suggestion(name, known)}: use one of {', '.join(near)}"
            f"{more if own and not of_stage else ''}"
        )
    return known[name]


def selectable_columns(settings: Settings) -> dict[str, Column]:
    """The columns that a condition can compare, by name."""
    return {
        column.name: column for column in columns(settings) if column.stage is not None or column.name in OF_DOCUMENT
    }


def column_name(stage: str, field: str) -> str:
    """The name of the column that shows a field of a stage: `category`, `payment.amount`. It does not depend on the pipeline
    file: a restored home may not have it yet."""
    return field if stage in BUILT_IN.names else f"{stage}.{field}"


def as_record(found: DocumentRecord, settings: Settings, *, with_text: bool = False) -> dict[str, Any]:
    """A document's record as one object: the built-in fields by name, each own stage's record under the stage's name."""
    extract, last = found.stages.get(EXTRACT), _last_answered(found)
    record: dict[str, Any] = {
        "document": found.document,
        "path": found.document if settings.library is None else str(settings.library / found.document),
        "state": found.state,
        "reason": found.reason,
        "outcome": None if extract is None else extract.outcome,
    }
    for column in BUILT_IN_COLUMNS:
        record[column.name] = _field(found, column)
    record["language"] = record["language"] or _field(found, Column("language", "string", CLASSIFY, "language"))
    for stage in stage_graph(settings).names:
        if stage in settings.own_stages:
            value = found.stages[stage].value if stage in found.stages else None
            record[stage] = value and in_order_of_stage(settings, stage, value)
    record["served_model"] = None if last is None else last.served_model
    record["updated_at"] = None if found.changed_at is None else found.changed_at.isoformat()
    record["corrected"] = _corrected(found, settings) or None
    return record | ({"text": found.text} if with_text else {})


def in_order_of_stage(settings: Settings, stage: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a stage with its fields in the order of its columns, then its marks: the ledger does not keep an order."""
    if stage in settings.own_stages:
        return in_declared_order(settings.own_stages[stage].answer, value)
    first = [column.field for column in BUILT_IN_COLUMNS if column.stage == stage and column.field in value]
    return {name: value[name] for name in dict.fromkeys((*first, *value)) if name is not None}


def _corrected(found: DocumentRecord, settings: Settings) -> list[str]:
    """The names of the columns that a person corrected."""
    return [
        column_name(stage, field)
        for stage in stage_graph(settings).names
        if stage in found.stages
        for field in found.stages[stage].corrected
    ]


def _last_answered(found: DocumentRecord) -> Any:
    answered = [stage for stage in found.stages.values() if stage.served_model is not None and stage.at is not None]
    return max(answered, key=lambda stage: stage.at, default=None)  # type: ignore[arg-type,return-value]


def _field(found: DocumentRecord, column: Column) -> Any:
    stage = found.stages.get(column.stage or "")
    return None if stage is None or stage.value is None else stage.value.get(column.field or "")


def answered(answers: Mapping[str, Mapping[str, Any]], every: Sequence[Column]) -> dict[str, Any]:
    """The columns of a record that its stages answer, by name, from their answers by stage. Typed as by `flat`."""
    values = {
        column.name: answers.get(column.stage, {}).get(column.field or "")
        for column in every
        if column.stage is not None
    }
    values["language"] = values["language"] or answers.get(CLASSIFY, {}).get("language")
    return {column.name: _typed(values[column.name], column.type) for column in every if column.name in values}


def flat(record: Mapping[str, Any], every: tuple[Column, ...]) -> dict[str, Any]:
    """A record as one value a column. Dates are `date` and `datetime`, lists and objects stay as they are.

    Names of files are escaped: answers were cleaned before they were stored, but a name may hold any character.
    """
    return {column.name: _typed(_cell(record, column), column.type) for column in every}


def _cell(record: Mapping[str, Any], column: Column) -> Any:
    if column.stage is None:
        value = record.get(column.name)
        return escaped(value) if isinstance(value, str) else value
    if column.name in record:
        return record[column.name]
    return (record.get(column.stage) or {}).get(column.field)


# The types of the JSON values that a column holds. One of type json holds any.
_FORMS: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "date": str,
    "datetime": str,
    "json": object,
}


def _typed(value: Any, kind: str) -> Any:
    """The value as its column's type. One of another form, such as an answer to an older question, is None."""
    if not isinstance(value, _FORMS[kind]) or (isinstance(value, bool) and kind in ("number", "integer")):
        return None
    if kind == "integer" and isinstance(value, int) and not INTEGERS[0] <= value <= INTEGERS[1]:
        return None
    if not isinstance(value, str):
        return value
    try:
        if kind == "date":
            return date.fromisoformat(value)
        return datetime.fromisoformat(value) if kind == "datetime" else value
    except ValueError:
        return None
