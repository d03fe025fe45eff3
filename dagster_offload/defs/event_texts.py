"""The JSON texts that Dagster stores of materializations, in a fraction of the time of Dagster's own serialization.

Dagster packs each value of each event on its own, and its metadata twice. The materializations of one asset in one run differ
in little, so Dagster packs the first one, and here only what differs is put in its place. A text always has the same value as
the one that Dagster would store, without its blanks and the order of its keys: the first of each kind is compared, and if they
differ, Dagster serializes all of that kind. The contract test is tests/dagster/test_event_texts.py.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster_shared.serdes import pack_value, serialize_value
from pydantic_core import to_json

# With another field in a later version of Dagster, events of one kind might differ in it: then Dagster serializes them all.
_FIELDS: dict[Any, set[str]] = {
    dg.EventLogEntry: {
        *("error_info", "level", "user_message", "run_id", "timestamp", "step_key", "job_name", "dagster_event"),
    },
    DagsterEvent: {
        *("event_type_value", "job_name", "step_handle", "node_handle", "step_kind_value", "logging_tags"),
        *("event_specific_data", "message", "pid", "step_key"),
    },
    StepMaterializationData: {"materialization", "asset_lineage"},
    dg.AssetMaterialization: {"asset_key", "description", "metadata", "partition", "tags"},
}
_ARE_FIELDS_KNOWN = all(set(getattr(kind, "_fields", ())) == fields for kind, fields in _FIELDS.items())

# Kinds of materializations whose first one is kept: of all assets in the newest runs.
MOST_KINDS = 256


class EventTexts:
    """Serializes events. One for each storage, because it keeps the first event of each kind."""

    def __init__(self) -> None:
        self._packed: dict[tuple[object, ...], dict[str, Any] | None] = {}  # None = Dagster stores something else

    def of(self, event: dg.EventLogEntry) -> str:
        """The text to store of this event."""
        kind = _kind(event)
        if kind is not None:
            with suppress(ValueError):  # a character that is not UTF-8, which only Dagster's form can hold
                return self._text_of(kind, event)
        return serialize_value(event)

    def _text_of(self, kind: tuple[object, ...], event: dg.EventLogEntry) -> str:
        try:
            packed = self._packed[kind]
        except KeyError:
            return self._learn(kind, event)
        return serialize_value(event) if packed is None else _text(packed, event)

    def _learn(self, kind: tuple[object, ...], event: dg.EventLogEntry) -> str:
        packed, text = pack_value(event), serialize_value(event)
        if len(self._packed) >= MOST_KINDS:
            self._packed.clear()
        is_same = json.loads(_text(packed, event)) == json.loads(text)
        self._packed[kind] = packed if is_same else None  # type: ignore[assignment]
        return text


def _kind(event: dg.EventLogEntry) -> tuple[object, ...] | None:
    """What materializations must have in common to differ only in their document; None for another event."""
    inner = event.dagster_event
    if (
        not _ARE_FIELDS_KNOWN
        or inner is None
        or inner.event_type_value != dg.DagsterEventType.ASSET_MATERIALIZATION.value
    ):
        return None
    shown = inner.step_materialization_data.materialization
    if type(shown.partition) is not str or shown.tags is None:
        return None
    if event.error_info or inner.step_handle or inner.node_handle or inner.logging_tags:
        return None
    if inner.step_materialization_data.asset_lineage:
        return None
    return (
        event.level, event.run_id, event.step_key, event.job_name,
        inner.job_name, inner.step_kind_value, inner.pid, inner.step_key,
        shown.asset_key, shown.description,
    )  # fmt: skip


def _text(packed: Mapping[str, Any], event: dg.EventLogEntry) -> str:
    """The text of an event of the kind that was `packed`."""
    inner = event.dagster_event
    assert inner is not None  # noqa: S101 - for the type checker: `_kind` has returned a kind
    shown = inner.step_materialization_data.materialization
    packed_inner = packed["dagster_event"]
    packed_data = packed_inner["event_specific_data"]
    materialization = packed_data["materialization"] | {
        "partition": shown.partition,
        "tags": dict(shown.tags or {}),
        "metadata_entries": [_entry(label, value) for label, value in shown.metadata.items()],
    }
    data = packed_data | {"materialization": materialization}
    whole = packed | {  # type: ignore[operator]
        "user_message": event.user_message,
        "timestamp": event.timestamp,
        "dagster_event": packed_inner | {"message": inner.message, "event_specific_data": data},
    }
    return to_json(whole).decode()


def _entry(label: str, value: dg.MetadataValue) -> dict[str, Any]:
    form = _forms().get(type(value))
    packed: Any = pack_value(value) if form is None else {"__class__": form[0], form[1]: value.value}  # type: ignore[call-overload]
    return {"__class__": "EventMetadataEntry", "label": label, "entry_data": packed, "description": None}


@cache
def _forms() -> dict[type, tuple[str, str]]:
    """The kinds of metadata with one value of plain JSON: the name and the field under which Dagster stores it."""
    samples = (
        dg.MetadataValue.text(""),
        dg.MetadataValue.md(""),
        dg.MetadataValue.path(""),
        dg.MetadataValue.int(0),
        dg.MetadataValue.float(0.0),
        dg.MetadataValue.bool(False),
        dg.MetadataValue.json([]),
    )
    forms = {}
    for sample in samples:
        packed: Any = pack_value(sample)
        (field,) = packed.keys() - {"__class__"}
        forms[type(sample)] = packed["__class__"], field
    return forms
