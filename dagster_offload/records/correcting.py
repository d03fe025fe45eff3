"""Corrections as a person writes them: `payment.amount=12.5` becomes a stage, a field and a value of its type."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports.records import DocumentRecord
from dagster_offload.ledger.work.corrections import Correction, NewValue
from dagster_offload.records.columns import Column, column_named, columns
from dagster_offload.records.reading import read_documents
from dagster_offload.settings import Settings
from dagster_offload.stages.answers.corrections import corrected_value, part_of, with_part
from dagster_offload.stages.answers.quotes import UNSUPPORTED
from dagster_offload.text.normal_form import in_nfc


def field_named(settings: Settings, written: str) -> Column:
    """The column of a field that a person can correct. Raises `SettingsError` with the nearest name."""
    column = column_named(settings, written)
    if column.field == UNSUPPORTED:
        raise SettingsError(f"{written} is a mark of this program: correct the field itself")
    return column


@dataclass(frozen=True)
class Change:
    """What a correction changes: a field or a part of one, as the person names it. None: not stated, or no such part."""

    name: str
    before: Any
    after: Any


def new_values(
    settings: Settings, ledger: Ledger, document: str, written: Sequence[str]
) -> tuple[list[NewValue], list[Change]]:
    """The values of `FIELD=VALUE` and `FIELD.PART=VALUE`, and what they change. Several parts of one field add up.

    Raises `SettingsError`, which names the field and what it accepts.
    """
    record = next(iter(read_documents(ledger, [document])), None)
    values: dict[tuple[str, str], NewValue] = {}
    changes = []
    for each in written:
        column, path, text = _parsed(settings, each)
        assert column.stage is not None  # noqa: S101 - for the type checker: `field_named` returns fields of stages
        assert column.field is not None  # noqa: S101
        now = dict(_value_of(record, column.stage))
        if (earlier := values.get((column.stage, column.field))) is not None:
            now[column.field] = earlier.value
        value = corrected_value(settings, column.stage, column.field, path, text, now)
        values[column.stage, column.field] = NewValue(column.stage, column.field, value)
        name = ".".join((column.name, *path))
        changes.append(Change(name, _part_or_none(now.get(column.field), path), _part_or_none(value, path)))
    return list(values.values()), changes


def without_corrections(
    settings: Settings, existing: Sequence[Correction], names: Sequence[str]
) -> tuple[list[tuple[str, str]], list[Correction]]:
    """The fields whose corrections end, and the corrections that stay with the model's answer for some of their parts.

    `existing`: the document's corrections. Raises `SettingsError` for a name that is not corrected.
    """
    known = {(each.stage, each.field): each for each in existing}
    touched: dict[tuple[str, str], Correction | None] = {}  # None = ends
    for name in names:
        column, path = _column_and_path(settings, name)
        field = (column.stage or "", column.field or "")
        found = touched.get(field, known.get(field))
        if field not in known or (path and known[field].is_for_review):
            raise SettingsError(f"there is no correction of {name}: see dagster-offload correct --list")
        touched[field] = None if found is None or not path else _with_the_models_part(found, path, column.name)
    ended = [field for field, stays in touched.items() if stays is None]
    return ended, [stays for stays in touched.values() if stays is not None]


def _with_the_models_part(found: Correction, path: Sequence[str], name: str) -> Correction | None:
    """The correction with the model's answer at `path`; None if nothing else is corrected in it."""
    shown = ".".join((name, *path))
    try:
        answered = part_of(found.answered, path)
    except LookupError:
        raise SettingsError(f"the model's answer has no {shown}: use --clear {name} for the whole field") from None
    value = with_part(found.value, path, answered, shown)
    return None if value == found.answered else replace(found, value=value)


def _part_or_none(value: Any, path: Sequence[str]) -> Any:
    try:
        return part_of(value, path)
    except LookupError:
        return None


def _value_of(record: DocumentRecord | None, stage: str) -> dict[str, object]:
    state = None if record is None else record.stages.get(stage)
    return {} if state is None or state.value is None else state.value


def _parsed(settings: Settings, written: str) -> tuple[Column, list[str], str]:
    """Split `FIELD=VALUE` or `FIELD.PART=VALUE`."""
    name, is_set, text = written.partition("=")
    if not is_set:
        raise SettingsError(f"{written!r} is not a correction: write FIELD=VALUE, such as category=invoice")
    return *_column_and_path(settings, name.strip()), text


def _column_and_path(settings: Settings, written: str) -> tuple[Column, list[str]]:
    """Split at the end of the field's name, which may hold `.` itself."""
    written = in_nfc(written)
    names = [column.name for column in columns(settings) if column.stage is not None]
    for name in sorted(names, key=len, reverse=True):
        if f"{written}.".startswith(f"{name}."):
            return field_named(settings, name), written.removeprefix(name).split(".")[1:]
    return field_named(settings, written), []
