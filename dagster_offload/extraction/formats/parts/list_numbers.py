"""The labels of numbered paragraphs in Word documents: each list counts its own levels."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dagster_offload.extraction.formats.parts.numerals import numeral

BULLET = "bullet"
_LEVELS = 9


class ListLevel(NamedTuple):
    """How a level of a list is numbered. `text` has %1 for the number of the first level, %2 for the second.

    `is_legal`: all numbers are written in digits. `restarts_below`: only levels above this one, from 0, let the level start
    again; None = all above it.
    """

    style: str  # of `numeral`, or BULLET
    text: str
    start: int
    is_legal: bool = False
    restarts_below: int | None = None


_UNKNOWN = ListLevel("", "", 1)


class ListNumbers:
    """Counts the paragraphs of each list. `levels`: by the name of the list and the level, from 0.

    `shared`: the name under which a list counts, so that lists with the same one continue each other. `anew`: the levels
    whose first paragraph in this list starts anew nevertheless.
    """

    def __init__(
        self,
        levels: Mapping[tuple[str, int], ListLevel],
        shared: Mapping[str, str] | None = None,
        anew: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._levels = levels
        self._shared = shared or {}
        self._anew = set(anew)
        self._numbers: dict[tuple[str, int], int] = {}  # of the last paragraph of each level

    def next(self, name: str, level: int) -> str:
        """Return the label of the list's next paragraph at this level, with a trailing blank; "" if it has none."""
        if (name, level) not in self._levels:
            return ""
        style, text, start, is_legal, _ = self._levels[name, level]
        counter = self._shared.get(name, name)
        last = None if (name, level) in self._anew else self._numbers.get((counter, level))
        self._anew.discard((name, level))
        self._numbers[counter, level] = start if last is None else last + 1
        for deeper in range(level + 1, _LEVELS):
            limit = self._levels.get((name, deeper), _UNKNOWN).restarts_below
            if limit is None or level < limit:
                self._numbers.pop((counter, deeper), None)
        if style == BULLET:
            return "- "
        label = re.sub(
            r"%([1-9])", lambda found: self._number(name, int(found[1]) - 1, is_legal=is_legal), text
        ).strip()
        return f"{label} " if label else ""

    def _number(self, name: str, level: int, *, is_legal: bool) -> str:
        how = self._levels.get((name, level), _UNKNOWN)
        number = self._numbers.get((self._shared.get(name, name), level), how.start)
        return numeral(number, "" if is_legal else how.style)
