"""A person's value for one field of a stage's record (a correction, or an expected value), validated by its model. Pure.

A person writes text, as a model does, so the same spellings are accepted: `1,250.50 EUR` is a number and `85%` a share. What
the model of an answer would drop is an error here, and so is what it would guess: `85` as a share.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from pydantic import BaseModel, ValidationError, create_model

from dagster_offload.errors import SettingsError
from dagster_offload.settings import Settings
from dagster_offload.stage_spec.fields import Field
from dagster_offload.stage_spec.relations import class_names
from dagster_offload.stages.answers.answer_model import answer_model
from dagster_offload.stages.answers.parsing import StageAnswer
from dagster_offload.stages.answers.written_numbers import ambiguity
from dagster_offload.stages.classify import Classification, class_named
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from dagster_offload.stages.summarize import Summary
from dagster_offload.text.counts import counted
from dagster_offload.text.normal_form import in_nfc
from dagster_offload.text.suggestions import suggestion
from dagster_offload.text.validation import fault_in_words

NULL = "null"


def corrected_value(
    settings: Settings, stage: str, field: str, path: Sequence[str], written: str, record: Mapping[str, Any]
) -> Any:
    """The whole value of `field` as JSON, if the person writes `written` for it or for the part of it that `path` names.

    `record` is the stage's record as it is now; a part is changed in it. Raises `SettingsError` with the reason.
    """
    name = f"{stage}.{field}" if stage in settings.own_stages else field
    shown = ".".join((name, *path))
    value = _read(written, shown)
    _refuse_unknown_parts(_part_at(_field(settings, stage, field), path, shown), value, shown)
    if path:
        value = with_part(record.get(field), path, value, shown)
    return _validated(settings, stage, field, value, shown)


def expected_value(settings: Settings, stage: str, field: str, value: Any) -> Any:
    """The JSON value that the record has if the model answers `value`. Null is always possible: an answer may be dropped.

    Raises `SettingsError` with the reason for a value that no answer can have.
    """
    _refuse_unknown_parts(_field(settings, stage, field), value, field)
    return None if value is None else _validated(settings, stage, field, value, field)


def _field(settings: Settings, stage: str, name: str) -> Field | None:
    """The field of a stage of one's own; None for a field of a built-in stage, which has no parts with names."""
    own = settings.own_stages.get(stage)
    return None if own is None else next((field for field in own.answer if field.name == name), None)


def _part_at(field: Field | None, path: Sequence[str], shown: str) -> Field | None:
    """The part of a field at `path`; None if the field has no parts there. Raises `SettingsError` for a name that no part has."""
    for key in path:
        if field is not None and field.type == "object":
            field = _part_named(field, key, shown)
        else:
            field = None if field is None else field.entry
    return field


def _refuse_unknown_parts(field: Field | None, value: Any, shown: str) -> None:
    """Raise `SettingsError` for a name in a value that no part of the field has: the model of an answer would leave it out."""
    if field is not None and field.entry is not None and isinstance(value, list):
        for entry in value:
            _refuse_unknown_parts(field.entry, entry, shown)
    if field is not None and field.type == "object" and isinstance(value, dict):
        for key, part in value.items():
            _refuse_unknown_parts(_part_named(field, key, shown), part, shown)


def _part_named(field: Field, name: str, shown: str) -> Field:
    parts = {part.name: part for part in field.fields}
    if name not in parts:
        raise SettingsError(
            f"{shown}: there is no part {name!r}{suggestion(name, parts)}: use one of {', '.join(parts)}"
        )
    return parts[name]


def part_of(value: Any, path: Sequence[str]) -> Any:
    """The part of a value at `path`: keys of objects, and places in lists from 0. Raises `LookupError` if there is none."""
    for key in path:
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        place = int(key) if isinstance(value, list) and key.isdecimal() else key
        if not isinstance(parts, dict) or place not in parts:
            raise LookupError(key)
        value = parts[place]
    return value


def _validated(settings: Settings, stage: str, field: str, value: Any, shown: str) -> Any:
    if (stage, field) == (CLASSIFY, "confidence"):
        _refuse_beyond_a_share(value, shown)
    try:
        validated = _model(settings, stage, field).model_validate({field: value}).model_dump(mode="json")[field]
    except ValidationError as error:
        raise SettingsError(f"{shown}: {_reasons(error)}") from None
    if validated is None and value is not None:
        raise SettingsError(f"{shown}: {value!r} is no value for it; `{NULL}` says that the document states none")
    return _class(settings, validated) if (stage, field) == (CLASSIFY, "category") else validated


def _refuse_beyond_a_share(value: Any, shown: str) -> None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return  # such as 85%
    if not 0 <= number <= 1:
        raise SettingsError(f"{shown}: must be a number from 0 to 1, such as 0.85 or 85%, and {value} is not")


def _read(written: str, shown: str) -> Any:
    """Lists and objects are written as JSON, everything else as it is."""
    text = written.strip()
    if text == NULL:
        return None
    if text[:1] in ("[", "{"):
        try:
            return in_nfc(json.loads(text))
        except ValueError as error:
            raise SettingsError(f"{shown}: a list or an object is written as JSON, and this is not: {error}") from None
    return text


def with_part(value: Any, path: Sequence[str], part: Any, shown: str) -> Any:
    """A copy of `value` with `part` at `path`: keys of objects, and places in lists from 0."""
    if not path:
        return part
    key, *rest = path
    if isinstance(value, list):
        if not key.isdecimal() or int(key) > len(value):
            raise SettingsError(
                f"{shown}: the list has {counted(len(value), 'value')}: write a place from 0 to {len(value)}"
            )
        entries = [*deepcopy(value), *([None] if int(key) == len(value) else [])]
        entries[int(key)] = with_part(entries[int(key)], rest, part, shown)
        return entries
    if value is not None and not isinstance(value, dict):
        raise SettingsError(f"{shown}: {key!r} is no part of it: its value has no parts")
    return {**(value or {}), key: with_part((value or {}).get(key), rest, part, shown)}


def _model(settings: Settings, stage: str, field: str) -> type[BaseModel]:
    """The model of an answer that has this field only: other fields may come from an older question."""
    own = settings.own_stages.get(stage)
    built_in: dict[str, type[BaseModel]] = {CLASSIFY: Classification, SUMMARIZE: Summary}
    whole = built_in[stage] if own is None else answer_model(own.answer)
    name, info = next((name, info) for name, info in whole.model_fields.items() if (info.alias or name) == field)
    definition: Any = {name: (info.annotation, info)}
    return create_model("Correction", __base__=StageAnswer, **definition)


def _class(settings: Settings, written: str) -> str:
    classes = class_names(settings.stages.classify.classes)
    name = class_named(written, classes)
    if name is None:
        hint = suggestion(written, classes)
        raise SettingsError(f"category: {written!r} is no class{hint}: use one of {', '.join(classes)}")
    return name


def _reasons(error: ValidationError) -> str:
    found = []
    for fault in error.errors(include_url=False):
        place = ".".join(str(part) for part in fault["loc"][1:])
        message = "must not be empty" if fault["type"] == "too_short" and not fault["input"] else fault_in_words(fault)
        if message.startswith("must be a number") and isinstance(fault["input"], str):
            message = ambiguity(fault["input"]) or message
        found.append(f"{place}: {message}" if place else message)
    return "; ".join(dict.fromkeys(found))
