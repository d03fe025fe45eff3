"""Measure how much of a known text was extracted: the share of its words, of their order, and of its table rows."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"\d[\d,.]*\d|[\w.:@-]*\w")
# What separates two cells of a row for a reader or a model.
_BORDER = r"[ \t]*(?:\||\t|,|;| {3,})[^\w]*?"


@dataclass(frozen=True)
class Measured:
    """Shares from 0 to 1; None if the document has no tables. `missing` are known words that were not extracted.

    `rows`: the share of table rows whose cells are separate. `lines`: the share of rows that are on one line in order.
    """

    words: float
    order: float
    rows: float | None
    lines: float | None
    missing: list[str]
    phrases: bool


def measure(text: str, expected: dict[str, Any]) -> Measured:
    found = words(text)
    known = words("\n".join([*expected["parts"], *expected["notes"]]))
    missing = list((Counter(known) - Counter(found)).elements())
    in_order = words("\n".join(expected["parts"]))
    kept = Counter(found) & Counter(in_order)
    rows = [row for row in expected["rows"] if sum(map(bool, row)) > 1]
    return Measured(
        words=1 - len(missing) / len(known),
        order=_longest_common(in_order, found) / max(1, kept.total()),
        rows=sum(_has_row(text, row, _BORDER) for row in rows) / len(rows) if rows else None,
        lines=sum(_has_row(text, row, "[^\n]*?") for row in rows) / len(rows) if rows else None,
        missing=missing,
        phrases=all(phrase in text for phrase in expected["phrases"]),
    )


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def _has_row(text: str, row: list[str], border: str) -> bool:
    cells = [re.escape(cell) for cell in row if cell]
    return re.search(border.join(f'"?{cell}"?' for cell in cells), text) is not None


def _longest_common(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for word in one:
        now = [0]
        for index, other_word in enumerate(other):
            now.append(before[index] + 1 if word == other_word else max(before[index + 1], now[index]))
        before = now
    return before[-1]
