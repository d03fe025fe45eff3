"""Grounding: each value of an answer comes with the words of the document that state it, and both are checked. Pure.

A quote must stand in the document; white space, the marks of Markdown, and the shape of quotation marks and dashes do not
count, and a part of a number is no quote of it. The value must agree with its quote: its numbers and dates must be in it, and
half of the words of a text. So a value that is invented beside a true quote is noticed, too.
"""

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, BeforeValidator, create_model

from dagster_offload.stage_spec.fields import Field
from dagster_offload.stages.answers.stated_values import COUNTING, states_value

Record = TypeVar("Record", bound=BaseModel)

QUOTES = "quotes"  # the key of an answer that holds the quotes, by field name
UNSUPPORTED = "unsupported"  # the key of a record that lists the fields without a quote that supports them
_MOST_PLACES = 10_000  # that are looked at for a quote
LONGEST_QUOTE = 500  # characters that a record keeps

_SAME = str.maketrans("‘’‚‛“”„‟«»′″‐‑‒–—―−", '\'\'\'\'""""""\'"-------')


@dataclass(frozen=True)
class Quote:
    """Words of the document that state a value: `text` stands at the characters `start` to `end`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Grounding:
    """What the check of an answer found. `unsupported` names the fields whose value no quote supports."""

    quotes: Mapping[str, Quote | list[Quote | None]] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """What to say in a repair question; None if every value is supported."""
        if not self.unsupported:
            return None
        names = ", ".join(f'"{name}"' for name in self.unsupported)
        return (
            f"the quotes of {names} do not stand in the document or do not state the value; copy the exact words, "
            "or answer null if the document does not state it"
        )


class Text:
    """A document prepared for finding quotes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._compact = _compact(text)
        # Each run of characters that count: where it starts in the document, and in the compact text.
        self._starts = [run.start() for run in COUNTING.finditer(text)]
        lengths = (len(run) for run in COUNTING.findall(text))
        self._compact_starts = list(accumulate(lengths, initial=0))

    def find(self, quote: str) -> Quote | None:
        """The first place of `quote` in the document that does not begin or end within a number."""
        wanted = _compact(unicodedata.normalize("NFC", quote))
        at = self._compact.find(wanted) if wanted else -1
        for _ in range(_MOST_PLACES):
            if at < 0:
                return None
            start, end = self._position(at), self._position(at + len(wanted) - 1) + 1
            if not (self._is_within_number(start) or self._is_within_number(end)):
                return Quote(self.text[start:end], start, end)
            at = self._compact.find(wanted, at + 1)
        return None

    def _is_within_number(self, at: int) -> bool:
        """Whether digits stand before and behind this position."""
        return self.text[at - 1 : at].isdecimal() and self.text[at : at + 1].isdecimal()

    def _position(self, at: int) -> int:
        """The position in the document of a character of the compact text."""
        run = bisect_right(self._compact_starts, at) - 1
        return self._starts[run] + at - self._compact_starts[run]


def _compact(text: str) -> str:
    """The characters of `text` that count."""
    return "".join(COUNTING.findall(text)).translate(_SAME)


def quotes_schema(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the JSON schema of the quotes: a text for each field, a list of texts for each list."""
    text: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    return {
        "type": "object",
        "required": [entry.name for entry in fields],
        "additionalProperties": False,
        "properties": {
            entry.name: {"type": "array", "items": {"type": "string"}} if entry.type == "list" else text
            for entry in fields
        },
    }


def quotes_in_words(fields: Sequence[Field]) -> str:
    """Return the sentence of an instruction that asks for the quotes."""
    names = ", ".join(f'"{entry.name}"' for entry in fields)
    lists = [entry.name for entry in fields if entry.type == "list"]
    of_lists = f" For {', '.join(lists)}: a list with the words of each entry, in the same order." if lists else ""
    return (
        f'"{QUOTES}" is an object with the fields {names}. Each holds the exact words of the document that state the '
        f"value, copied letter by letter, or null if the value is null.{of_lists}"
    )


def ground(value: Mapping[str, Any], quotes: Any, fields: Sequence[Field], document: str) -> Grounding:
    """Check the quotes that an answer gave for its values. `quotes` is what the model wrote: it may be anything."""
    given = quotes if isinstance(quotes, Mapping) else {}
    text = Text(document)
    found: dict[str, Quote | list[Quote | None]] = {}
    unsupported = []
    for entry in fields:
        stated = value.get(entry.name)
        if stated is None or stated == []:
            continue
        if entry.type == "list":
            written = given.get(entry.name)
            each = written if isinstance(written, Sequence) and not isinstance(written, str) else [written]
            if len(each) > len(stated):  # entries that are null were left out
                each = [quote for quote in each if quote is not None]
            padded = [*each, *[None] * len(stated)][: len(stated)]
            assert entry.entry is not None  # noqa: S101 - for the type checker: a list has one
            places = [_support(part, entry.entry, quote, text) for part, quote in zip(stated, padded, strict=True)]
            found[entry.name] = places
            is_supported = all(place is not None for place in places)
        else:
            place = _support(stated, entry, given.get(entry.name), text)
            if place is not None:
                found[entry.name] = place
            is_supported = place is not None
        if not is_supported:
            unsupported.append(entry.name)
    return Grounding(found, tuple(unsupported))


def _support(value: Any, field: Field, quote: Any, text: Text) -> Quote | None:
    """The quote that supports the value, or None. A text that stands in the document is its own quote."""
    place = text.find(quote) if isinstance(quote, str) else None
    if place is not None and all(states_value(leaf, kind, place.text) for leaf, kind in _leaves(value, field)):
        return place
    return text.find(value) if field.type == "string" and len(value) > 2 else None


def _leaves(value: Any, field: Field) -> Iterator[tuple[Any, str]]:
    """The single values in `value`, each with its type."""
    if value is None:
        return
    if field.type == "object":
        for part in field.fields:
            yield from _leaves(value.get(part.name), part)
    elif field.type == "list" and field.entry is not None:
        for entry in value:
            yield from _leaves(entry, field.entry)
    else:
        yield value, field.type


def record_of(
    value: Mapping[str, Any], grounding: Grounding, fields: Sequence[Field], *, start: int = 0, is_required: bool
) -> dict[str, Any]:
    """Return the record: the values, their quotes, and the names of unsupported fields.

    `start` is where the checked text starts in the document. With `is_required`,
    unsupported values are dropped: null, or an empty list.
    """
    record = dict(value)
    found = dict(grounding.quotes)
    by_name = {entry.name: entry for entry in fields}
    if is_required:
        for name in grounding.unsupported:
            places = found.get(name)
            if isinstance(places, list):
                record[name] = [part for part, place in zip(value[name], places, strict=True) if place is not None]
                found[name] = [place for place in places if place is not None]
            else:
                record[name] = [] if by_name[name].type == "list" else None
    record[QUOTES] = {
        name: [_shown(place, start) for place in places] if isinstance(places, list) else _shown(places, start)
        for name, places in found.items()
    }
    record[UNSUPPORTED] = list(grounding.unsupported)
    return record


def _shown(place: Quote | None, start: int) -> dict[str, Any] | None:
    if place is None:
        return None
    return {"text": place.text[:LONGEST_QUOTE], "start": start + place.start, "end": start + place.end}


def with_quotes(model: type[Record]) -> type[Record]:
    """Return the model with a field for the quotes. It accepts anything: a wrong form of quotes costs no answer."""
    quotes = Annotated[Any, BeforeValidator(_texts)]
    return create_model("Answer", __base__=model, field_quotes=(quotes, pydantic.Field(None, alias=QUOTES)))


def _texts(written: Any) -> dict[str, Any]:
    """The texts in what a model wrote as quotes, by field. Other forms may be nested too deeply to be serialized."""
    if not isinstance(written, Mapping):
        return {}
    return {
        name: [_text(part) for part in quote] if isinstance(quote, list) else _text(quote)
        for name, quote in written.items()
    }


def _text(written: Any) -> str | None:
    return written if isinstance(written, str) else None
