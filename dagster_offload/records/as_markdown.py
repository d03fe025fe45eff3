"""A record as a Markdown note: its fields as front matter, then its title, summary and key points."""

import json
from collections.abc import Mapping
from typing import Any

from dagster_offload.records.columns import Column, flat
from dagster_offload.text.plain_text import escaped_json, markdown_text

_IN_BODY = ("title", "summary", "key_points")


def note(record: Mapping[str, Any], columns: tuple[Column, ...]) -> str:
    """The note of one record. The same record always gives the same note.

    JSON is YAML, so any YAML reader reads the front matter. `updated_at` is left out: it changes without the record.
    """
    fields = {
        name: value
        for name, value in flat(record, columns).items()
        if value is not None and name not in ("updated_at", *_IN_BODY[1:])
    }
    lines = ["---", *(f"{json.dumps(name, ensure_ascii=False)}: {_written(value)}" for name, value in fields.items())]
    lines += ["---", "", f"# {_plain(record.get('title') or record['document'])}"]
    if record.get("summary"):
        lines += ["", _plain(record["summary"])]
    if record.get("key_points"):
        lines += ["", *(f"- {_plain(point)}" for point in record["key_points"])]
    return "\n".join([*lines, ""])


def _written(value: Any) -> str:
    return escaped_json(json.dumps(value, ensure_ascii=False, default=str))


def _plain(text: Any) -> str:
    """One paragraph without HTML, links, images or code of its own: a program that shows the note would load or run them."""
    return markdown_text(" ".join(str(text).split()))
