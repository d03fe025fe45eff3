"""What changes in a Paperless document: the record's values, but never what a person has set there. Pure.

Names (of correspondents, types, tags and custom fields) are compared here; `paperless.py` turns them into numbers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any

from dagster_offload.settings.sections.sinks import PaperlessSettings

LONGEST_NAME = 128  # characters of a name or a title in Paperless


@dataclass(frozen=True)
class Wanted:
    """The values of a record for Paperless. None: the record has no value, and nothing is changed."""

    title: str | None = None
    created: str | None = None  # ISO 8601
    correspondent: str | None = None
    document_type: str | None = None
    tags: tuple[str, ...] = ()
    custom_fields: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Hidden:
    """A name that belongs to another user of Paperless: this sink sees its number only. A person has set it."""

    number: int


@dataclass(frozen=True)
class Present:
    """A document in Paperless as it is now. `custom_fields` are those that it has, by name; a value may be None."""

    title: str
    created: str
    correspondent: str | Hidden | None
    document_type: str | Hidden | None
    tags: tuple[str | Hidden, ...]
    custom_fields: Mapping[str, Any]
    added: str
    file_name: str


@dataclass(frozen=True)
class Changes:
    """The fields to change, with their whole new values, and what we have written by then."""

    values: Mapping[str, Any]
    note: str | None
    written: Mapping[str, Any]


def wanted_of(record: Mapping[str, Any], settings: PaperlessSettings) -> Wanted:
    """The values that a record has for Paperless. `record` is flat: one value a column."""

    def text(column: str | None) -> str | None:
        return None if column is None else _as_text(record.get(column))

    created = None if settings.created is None else record.get(settings.created)
    tags = [name for column in settings.tags for name in _as_names(record.get(column))]
    fields = {name: record.get(column) for name, column in settings.custom_fields.items()}
    return Wanted(
        title=_short(text(settings.title)),
        created=created.isoformat()[:10] if isinstance(created, date | datetime) else None,
        correspondent=_short(text(settings.correspondent)),
        document_type=_short(text(settings.document_type)),
        tags=tuple(dict.fromkeys((*tags, *settings.always_tags))),
        custom_fields={name: _plain(value) for name, value in fields.items() if value is not None},
        note=text(settings.note),
    )


def known(written: Mapping[str, Any], maybe_written: Mapping[str, Any], present: Present) -> dict[str, Any]:
    """What we wrote, as far as it can be known: `written`, and those of `maybe_written` that the document has now.

    `maybe_written` are values that an attempt that failed was about to write, of which none was a person's then.
    """
    found = dict(written)
    for name in ("title", "created", "correspondent", "document_type"):
        if name in maybe_written and _is_same(getattr(present, name), maybe_written[name]):
            found[name] = maybe_written[name]
    arrived = [name for name in maybe_written.get("tags", ()) if name in present.tags]
    found["tags"] = list(dict.fromkeys((*written.get("tags", ()), *arrived)))
    found["custom_fields"] = dict(written.get("custom_fields", {})) | {
        name: value
        for name, value in maybe_written.get("custom_fields", {}).items()
        if _is_same(present.custom_fields.get(name), value)
    }
    return found


def changes(wanted: Wanted, present: Present, written: Mapping[str, Any], *, overwrite: bool) -> Changes:
    """Decide what to change. `written` is what we wrote for this document before.

    A value belongs to a person if it is neither unset nor the one that we wrote. A value that we wrote and that is gone now
    was removed by a person, and is not written again.
    """
    values: dict[str, Any] = {}
    ours = dict(written)
    is_unset = {
        # Paperless names a document after its file, and dates it with the day on which it was added if it finds no date.
        "title": present.title in ("", PurePosixPath(present.file_name).stem),
        "created": present.created[:10] == present.added[:10],
        "correspondent": present.correspondent is None,
        "document_type": present.document_type is None,
    }
    for name, unset in is_unset.items():
        new, now = getattr(wanted, name), getattr(present, name)
        if new is None or not _may_write(name, now, unset, written, overwrite=overwrite):
            continue
        ours[name] = new
        if not _is_same(new, now):
            values[name] = new
    tags, ours["tags"] = _tags(wanted.tags, present.tags, written.get("tags", ()), overwrite=overwrite)
    if set(tags) != set(present.tags):
        values["tags"] = tags
    fields, ours["custom_fields"] = _custom_fields(
        wanted.custom_fields, present.custom_fields, written.get("custom_fields", {}), overwrite=overwrite
    )
    if fields != dict(present.custom_fields):
        values["custom_fields"] = fields
    note = None if wanted.note is None or wanted.note == written.get("note") else wanted.note
    if note is not None:
        ours["note"] = note
    return Changes(values, note, ours)


def _may_write(name: str, now: Any, is_unset: bool, written: Mapping[str, Any], *, overwrite: bool) -> bool:
    return overwrite or (_is_same(now, written[name]) if name in written else is_unset)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values mean the same. Paperless finds names in any case, and keeps some numbers as text."""
    if one is None or other is None:
        return one is other
    return one == other or str(one).casefold() == str(other).casefold()


def _tags(
    wanted: Sequence[str], present: Sequence[str | Hidden], written: Sequence[str], *, overwrite: bool
) -> tuple[list[str | Hidden], list[str]]:
    """All tags of the document, and those of them that are ours. Tags of a person stay, also with `overwrite`."""
    stale = {name for name in written if name not in wanted}
    kept = [name for name in present if name not in stale]
    removed_by_a_person = set() if overwrite else set(written) - set(present)
    added = [name for name in wanted if name not in kept and name not in removed_by_a_person]
    ours = [name for name in wanted if name in added or name in written]
    return [*kept, *added], ours


def _custom_fields(
    wanted: Mapping[str, Any], present: Mapping[str, Any], written: Mapping[str, Any], *, overwrite: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All custom fields of the document, and those of them that are ours."""
    values, ours = dict(present), dict(written)
    for name, new in wanted.items():
        now = present.get(name)
        if _may_write(name, now, now is None, written, overwrite=overwrite):
            ours[name] = new
            values[name] = now if _is_same(new, now) else new
    return values, ours


def _as_text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, list):
        return "; ".join(text for entry in value if (text := _as_text(entry)) is not None) or None
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def _as_names(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [name for entry in entries if (name := _short(_as_text(entry))) is not None]


def _short(text: str | None) -> str | None:
    return None if text is None else " ".join(text.split())[:LONGEST_NAME] or None


def _plain(value: Any) -> Any:
    """A value as JSON has it: lists and objects as text, dates in ISO 8601."""
    return value if isinstance(value, bool | int | float) else _as_text(value)
