"""A stage's record as lines of text for the terminal: a line a field, with the words of the document that state it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster_offload.records.words import in_words
from dagster_offload.text.plain_text import shortened

NAME_WIDTH = 18
LONGEST_STAGE = 200  # characters of a stage in the table of all records


def record_lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield `amount             12.5   quote: "Amount due: 12.50"`, and for a list a line for each entry."""
    quotes = record.get("quotes") or {}
    for field, value in record.items():
        if field == "quotes":
            continue
        quote = quotes.get(field)
        if isinstance(value, list) and value:
            each = quote if isinstance(quote, list) else []
            for index, entry in enumerate(value):
                yield _line(field if index == 0 else "", entry, each[index] if index < len(each) else None)
        else:
            yield _line(field, value, quote)


def own_stage_lines(record: Mapping[str, Any], own: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield `payment: payee=The landlord, amount=1250.5` for each stage with a value. `own`: the fields of own stages."""
    for stage, fields in own.items():
        values = record[stage] or {}
        found = [f"{field}={in_words(values[field])}" for field in fields if values.get(field) not in (None, [], {})]
        if found:
            yield shortened(" ".join(f"{stage}: {', '.join(found)}".split()), LONGEST_STAGE)


def _line(name: str, value: Any, quote: Any) -> str:
    words = f'   quote: "{quote["text"]}"' if isinstance(quote, Mapping) else ""
    return f"{name:<{NAME_WIDTH}} {in_words(value)}{words}"
