"""Find the digits that a PDF page raises beside a number: 10 with a small 6 above its line is not 106.

PDFium returns the letters of a line without their heights.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from dagster_offload.extraction.formats.parts.line_marks import raised, shown_line

_NUMBER = re.compile(r"[0-9][0-9.,]*[%)]?[-+−–]?[0-9]+(?:[.,][0-9]+)*")
_HIGHER, _SMALLER = 0.15, 0.9  # than the digit before, as shares of its height

_LEAST = 0.5  # points by which a digit is raised


class Stand(NamedTuple):
    """How a letter stands in a level line: where its base line is, and how high it is."""

    base: float
    height: float


def with_raised_numbers(text: str, base_of: Callable[[int], float], stand_of: Callable[[int], Stand | None]) -> str:
    """Return a page's text in which the digits that are raised beside a number stay apart from it.

    `base_of` and `stand_of` an offset in `text`. The latter takes longer, and is None if the letter's line is not level.
    """

    def apart(number: re.Match[str]) -> str:
        is_level = base_of(number.end() - 1) - base_of(number.start()) < _LEAST
        return number[0] if is_level else _apart(number, stand_of)

    return shown_line(_NUMBER.sub(apart, text))


def _apart(number: re.Match[str], stand_of: Callable[[int], Stand | None]) -> str:
    written = number[0]
    before = stand_of(number.start())
    for place in range(1, len(written)):
        if written[place] in ".,%)":
            continue
        now = stand_of(number.start() + place)
        if before is None or now is None:
            return written
        if now.base - before.base > _HIGHER * before.height and now.height < _SMALLER * before.height:
            return written[:place] + raised(written[place:])
        before = now
    return written
