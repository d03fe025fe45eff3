"""Conditions on records, as a person writes them: `payment.amount>=100`. Pure."""

import re
import unicodedata
from datetime import date, datetime

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.reports.records import Condition
from dagster_offload.records.columns import Column, column_named
from dagster_offload.settings import Settings

_CONDITION = re.compile(r"\s*([^=<>!~]+?)\s*(>=|<=|!=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DAY_FIRST = re.compile(r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})")
_YEAR_FIRST = re.compile(r"(?P<year>[0-9]{4})[./](?P<month>[0-9]{1,2})[./](?P<day>[0-9]{1,2})")


def read_condition(written: str, settings: Settings) -> Condition:
    """The condition for the ledger. Raises `SettingsError` for a field that does not exist, or a value of another type."""
    column, operator, value = _parts(written, settings)
    assert column.stage is not None  # noqa: S101 - for the type checker: `column_named` returns fields of stages
    assert column.field is not None  # noqa: S101
    kind = "text"
    if operator != "~" and (value or operator not in ("=", "!=")):
        if column.type in ("number", "integer"):
            kind = "number"
            if not _NUMBER.fullmatch(value):
                raise SettingsError(f"{written!r}: {column.name} is a number, and {value!r} is not")
        elif column.type == "boolean":
            kind = "boolean"
            value = _truth(column.name, operator, value, written)
        elif column.type in ("date", "datetime"):
            value = _moment(column, value, written)
    return Condition(column.stage, column.field, operator, value, kind)  # type: ignore[arg-type]


def _parts(written: str, settings: Settings) -> tuple[Column, str, str]:
    found = _CONDITION.fullmatch(unicodedata.normalize("NFC", written))
    if found is None:
        raise SettingsError(f"{written!r} is not a condition: write FIELD=VALUE, such as category=invoice")
    name, operator, value = found.groups()
    return column_named(settings, name), operator, value


def _truth(name: str, operator: str, value: str, written: str) -> str:
    if operator not in ("=", "!=") or value.lower() not in ("true", "false"):
        raise SettingsError(f"{written!r}: {name} is true or false: write {name}=true or {name}=false")
    return value.lower()


def _moment(column: Column, value: str, written: str) -> str:
    """A date, or a time of a datetime, in the form in which records hold it: dates in this form are compared as text."""
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        pass
    if column.type == "datetime":
        try:
            return datetime.fromisoformat(value).isoformat().replace("+00:00", "Z")
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
