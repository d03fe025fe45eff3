"""Corrections as a person writes them: `payment.amount=12.5` becomes a stage, a field and a value of its type."""

from collections.abc import Sequence

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.reports.records import DocumentRecord
from dagster_offload.ledger.work.corrections import NewValue
from dagster_offload.records.columns import Column, column_named, columns
from dagster_offload.records.reading import read_documents
from dagster_offload.settings import Settings
from dagster_offload.stages.answers.corrections import corrected_value
from dagster_offload.stages.answers.quotes import UNSUPPORTED


def field_named(settings: Settings, written: str) -> Column:
    """The column of a field that a person can correct. Raises `SettingsError` with the nearest name."""
    column = column_named(settings, written)
    if column.field == UNSUPPORTED:
        raise SettingsError(f"{written} is a mark of this program: correct the field itself")
    return column


def new_values(settings: Settings, ledger: Ledger, document: str, written: Sequence[str]) -> list[NewValue]:
    """The values of `FIELD=VALUE` and `FIELD.PART=VALUE`. Several parts of one field add up.

    Raises `SettingsError`, which names the field and what it accepts.
    """
    record = next(iter(read_documents(ledger, [document])), None)
    values: dict[tuple[str, str], NewValue] = {}
    for each in written:
        column, path, text = _parsed(settings, each)
        assert column.stage is not None  # noqa: S101 - for the type checker: `field_named` returns fields of stages
        assert column.field is not None  # noqa: S101
        now = dict(_value_of(record, column.stage))
        if (earlier := values.get((column.stage, column.field))) is not None:
            now[column.field] = earlier.value
        value = corrected_value(settings, column.stage, column.field, path, text, now)
        values[column.stage, column.field] = NewValue(column.stage, column.field, value)
    return list(values.values())


def _value_of(record: DocumentRecord | None, stage: str) -> dict[str, object]:
    state = None if record is None else record.stages.get(stage)
    return {} if state is None or state.value is None else state.value


def _parsed(settings: Settings, written: str) -> tuple[Column, list[str], str]:
    """Split at the end of the field's name, which may hold `.` itself."""
    names = [column.name for column in columns(settings) if column.stage is not None]
    for name in sorted(names, key=len, reverse=True):
        rest = written.removeprefix(name)
        if rest == written or rest[:1] not in (".", "="):
            continue
        path, is_set, text = rest.partition("=")
        if is_set:
            return field_named(settings, name), path.split(".")[1:], text
    name, is_set, _ = written.partition("=")
    if not is_set:
        raise SettingsError(f"{written!r} is not a correction: write FIELD=VALUE, such as category=invoice")
    return field_named(settings, name.strip()), [], written.partition("=")[2]
