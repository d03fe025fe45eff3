"""The labels of numbered paragraphs in Word documents: each list counts its own levels."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from dagster_offload.extraction.formats.parts.numerals import numeral

BULLET = "bullet"
_LEVELS = 9


class ListLevel(NamedTuple):
    """How a level of a list is numbered. `text` has %1 for the number of the first level, %2 for the second."""

    style: str  # of `numeral`, or BULLET
    text: str
    start: int


class ListNumbers:
    """Counts the paragraphs of each list. `levels`: by the name of the list and the level, from 0."""

    def __init__(self, levels: Mapping[tuple[str, int], ListLevel]) -> None:
        self._levels = levels
        self._counted: Counter[tuple[str, int]] = Counter()

    def next(self, name: str, level: int) -> str:
        """Return the label of the list's next paragraph at this level, with a trailing blank; "" if it has none."""
        if (name, level) not in self._levels:
            return ""
        self._counted[name, level] += 1
        for deeper in range(level + 1, _LEVELS):
            self._counted.pop((name, deeper), None)
        style, text, _ = self._levels[name, level]
        if style == BULLET:
            return "- "
        label = re.sub(r"%([1-9])", lambda found: self._number(name, int(found[1]) - 1), text).strip()
        return f"{label} " if label else ""

    def _number(self, name: str, level: int) -> str:
        style, _, start = self._levels.get((name, level), ListLevel("", "", 1))
        return numeral(start - 1 + max(1, self._counted[name, level]), style)
