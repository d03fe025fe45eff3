"""A record as people read it in Dagster's UI: as Markdown, and the newest ones as a table."""

import re
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports.records import DocumentRecord
from dagster_offload.records.columns import BUILT_IN_COLUMNS, Column, answered, as_record, columns, flat
from dagster_offload.settings import Settings
from dagster_offload.text.plain_text import escaped, markdown_text, shortened

LONGEST_VALUE = 500
LONGEST_CELL = 160
KEPT_OF_WORD = 12  # characters at each end of a word that is cut
# Between places where a browser may begin a new line.
_LONG_WORD = re.compile(r"[^\s/-]{30,}")
_SHOWN_ABOVE = {column.name for column in BUILT_IN_COLUMNS}


def record_markdown(answers: Mapping[str, Mapping[str, Any]], every: Sequence[Column]) -> dg.MarkdownMetadataValue:
    """Class, title, summary, key points and the fields of own stages of one document, together.

    `answers` are those of its stages, by stage; `every` are the pipeline's columns.
    """
    values = answered(answers, every)
    lines = [f"**{_text(values['category'])}**"] if values["category"] else []
    if values["category"] and values["confidence"] is not None:
        lines[0] += f" (confidence {values['confidence']:.2f})"
    if values["title"]:
        lines.append(f"### {_text(values['title'])}")
    if values["summary"]:
        lines.append(_text(values["summary"], None))
    if values["key_points"]:
        lines.append("\n".join(f"- {_text(point)}" for point in values["key_points"]))
    if rows := [f"| {_text(name)} | {_text(value)} |" for name, value in _own_values(every, values)]:
        lines.append("\n".join(["| field | value |", "|---|---|", *rows]))
    return dg.MetadataValue.md("\n\n".join(lines))


def _own_values(every: Sequence[Column], values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    own = [column.name for column in every if column.stage is not None and column.name not in _SHOWN_ABOVE]
    return [(name, values[name]) for name in own if values[name] is not None]


def _text(value: Any, longest: int | None = LONGEST_VALUE) -> str:
    written = "; ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)
    return markdown_text(written if longest is None else shortened(written, longest))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(entry)}" for name, entry in value.items() if entry is not None)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.isoformat() if isinstance(value, date) else " ".join(str(value).split())


def record_table(found: Sequence[DocumentRecord], settings: Settings) -> dg.TableMetadataValue:
    """One row per document. With the setting `previews` off, the rows hold no text of a document.

    It has one column: Dagster leaves the table a quarter of the page, so columns side by side are a few words wide each.
    """
    every = columns(settings)
    shown = [flat(as_record(each, settings), every) for each in found]
    if settings.previews == "off":
        return dg.MetadataValue.table([dg.TableRecord({"document": _heading(values)}) for values in shown])
    lines = (": ".join(filter(None, (_heading(values), _words(values)))) for values in shown)
    return dg.MetadataValue.table([dg.TableRecord({"document: title and summary": line}) for line in lines])


def _heading(values: Mapping[str, Any]) -> str:
    """The document's name, its class if it has one, and its state if it is not done."""
    state = values["state"] if values["state"] != State.DONE else None
    facts = ", ".join(str(fact) for fact in (values["category"], state) if fact)
    return _breakable(escaped(values["document"])) + (f" ({facts})" if facts else "")


def _words(values: Mapping[str, Any]) -> str:
    words = ": ".join(_plain(values[name]) for name in ("title", "summary") if values[name])
    return _breakable(shortened(words, LONGEST_CELL))


def _breakable(text: str) -> str:
    """`text` with its longest words cut. A browser breaks no word, and one long word makes the whole table too wide."""
    return _LONG_WORD.sub(lambda word: f"{word[0][:KEPT_OF_WORD]}…{word[0][-KEPT_OF_WORD:]}", text)
