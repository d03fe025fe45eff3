"""Conditions on records, as a person writes them: `payment.amount>=100`. Pure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import date, datetime

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.reports.records import STATES, Condition, Kind, Operator
from dagster_offload.records.columns import Column, column_named, named, selectable_columns
from dagster_offload.settings import Settings
from dagster_offload.stage_spec.relations import class_names
from dagster_offload.stages.answers.written_numbers import ambiguity, written_number
from dagster_offload.stages.graph import CLASSIFY
from dagster_offload.text.suggestions import suggestion

_CONDITION = re.compile(r"\s*([^=<>!~]+?)\s*(>=|<=|!=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_SEPARATED = re.compile(r"[+-]?[0-9][0-9.,'’\s]*")  # a number with separators, without a currency or a percent sign
_DAY_FIRST = re.compile(r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})")
_YEAR_FIRST = re.compile(r"(?P<year>[0-9]{4})[./](?P<month>[0-9]{1,2})[./](?P<day>[0-9]{1,2})")

# What to write instead of a column that conditions do not compare.
_INSTEAD = {"path": "document, its path below the library", "updated_at": "--changed-since"}


def read_condition(written: str, settings: Settings) -> Condition:
    """The condition for the ledger. Raises `SettingsError` for a field that does not exist, or a value of another type."""
    column, operator, value = _parts(written, settings)
    kind: Kind = "text"
    if column.stage is None:
        return Condition(None, column.name, operator, _of_document(column.name, operator, value, settings))
    assert column.field is not None  # noqa: S101 - for the type checker: a column of a stage has a field
    if operator != "~" and (value or operator not in ("=", "!=")):
        if column.type in ("number", "integer"):
            kind = "number"
            value = _number(column.name, value, written)
        elif column.type == "boolean":
            kind = "boolean"
            value = _truth(column.name, operator, value, written)
        elif column.type in ("date", "datetime"):
            kind, value = _time(column, value, written)
    return Condition(column.stage, column.field, operator, value, kind)


def check_states(states: Sequence[str]) -> None:
    """Raise `SettingsError` for a state that documents cannot have."""
    if unknown := [state for state in states if state not in STATES]:
        raise SettingsError(f"there is no state {unknown[0]!r}: use one of {', '.join(STATES)}")


def unknown_values(conditions: Sequence[str], settings: Settings) -> Iterator[str]:
    """A line for each value that its field cannot have now. Documents may still have it from an earlier pipeline."""
    for written in conditions:
        column, operator, value = _parts(written, settings)
        possible = _possible_values(column, settings)
        if operator == "=" and value and possible and value not in possible:
            near = suggestion(value, possible)
            yield f"{column.name} has no value {value!r}{near}: its values are {', '.join(possible)}"


def _possible_values(column: Column, settings: Settings) -> tuple[str, ...]:
    """The values that a field can have; empty if there is no list of them."""
    if (column.stage, column.field) == (CLASSIFY, "category"):
        return class_names(settings.stages.classify.classes)
    spec = settings.own_stages.get(column.stage or "")
    field = next((each for each in spec.answer if each.name == column.field), None) if spec is not None else None
    return () if field is None else field.values or (field.entry.values if field.entry is not None else ())


def _of_document(name: str, operator: str, value: str, settings: Settings) -> str:
    """The value of a condition on the document itself, as the ledger holds it."""
    if value and operator in ("=", "!="):
        if name == "state":
            check_states([value])
        elif name == "corrected":
            column = column_named(settings, value)
            return f"{column.stage}.{column.field}"
    return value


def _parts(written: str, settings: Settings) -> tuple[Column, Operator, str]:
    found = _CONDITION.fullmatch(unicodedata.normalize("NFC", written))
    if found is None:
        raise SettingsError(f"{written!r} is not a condition: write FIELD=VALUE, such as category=invoice")
    name, operator, value = found.groups()
    if name in _INSTEAD:
        raise SettingsError(f"{written!r}: no condition compares {name}: use {_INSTEAD[name]}")
    return named(name, selectable_columns(settings)), operator, value  # type: ignore[return-value]


def _number(name: str, value: str, written: str) -> str:
    if _NUMBER.fullmatch(value):
        return value
    number = written_number(value) if _SEPARATED.fullmatch(value) else None
    if number is None:
        raise SettingsError(f"{written!r}: {ambiguity(value) or f'{name} is a number, and {value!r} is not'}")
    return str(number)


def _truth(name: str, operator: str, value: str, written: str) -> str:
    if operator not in ("=", "!=") or value.lower() not in ("true", "false"):
        raise SettingsError(f"{written!r}: {name} is true or false: write {name}=true or {name}=false")
    return value.lower()


def _time(column: Column, value: str, written: str) -> tuple[Kind, str]:
    """How a date, or the time of a datetime, is compared, and in ISO 8601. A date means the whole day of a datetime."""
    try:
        return "day" if column.type == "datetime" else "text", date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    if column.type == "datetime":
        try:
            time = datetime.fromisoformat(value)
            return "clock" if time.tzinfo is None else "moment", time.isoformat()
        except ValueError:
            pass
    kind = "date" if column.type == "date" else "date and time"
    raise SettingsError(
        f"{written!r}: {column.name} is a {kind}, and {value!r} is not: write {_in_iso(value)}"
    ) from None


def _in_iso(value: str) -> str:
    """A date of another form as an ISO 8601 date if only one date can be meant, else an example."""
    found = _DAY_FIRST.fullmatch(value) or _YEAR_FIRST.fullmatch(value)
    if found is not None:
        try:
            return date(int(found["year"]), int(found["month"]), int(found["day"])).isoformat()
        except ValueError:
            pass
    return "a date such as 2025-05-01"
