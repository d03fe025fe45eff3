"""Number the lists and headings of OpenDocument files as the document shows them: 1., a), II, 2.1.

The file has only the styles of lists. Format specification: OpenDocument 1.3, part 3, 5.3 and 16.30.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.numerals import numeral
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

LABEL = "label of this program"  # the attribute that holds what is shown before an item or a heading
_NUMERALS = {"a": "lower letter", "A": "upper letter", "i": "lower roman", "I": "upper roman"}
_PLACE = re.compile(r"%(\d{1,2})%")
# A list inside these is not a part of the list around them.
_APART = frozenset({"frame", "text-box", "custom-shape", "table", "note", "annotation", "g"})
_MAX_LEVEL = 10


class _Look(NamedTuple):
    """How a level is numbered. `text` has %1% for the number of the first level."""

    style: str
    text: str
    start: int


Looks = dict[int, _Look]  # by level, from 1
Numbers = dict[int, int]  # the last number of each level


def label_lists(content: Element, styles: Element) -> None:
    """Give each numbered item and heading its label, as an attribute."""
    _Lists({**dict(_lists_in(styles)), **dict(_lists_in(content))}).label(content)


def _lists_in(root: Element) -> Iterator[tuple[str, Looks]]:
    for element in root.iter():
        if local(element) in ("list-style", "outline-style"):
            # There is one style of headings, whose name says nothing.
            name = "" if local(element) == "outline-style" else attribute(element, "name") or ""
            yield name, {int_or(attribute(level, "level"), 1): look for level in element if (look := _look(level))}


def _look(level: Element) -> _Look | None:
    """Return how a level is numbered, None if it has a bullet or nothing."""
    written = attribute(level, "num-format")
    if not written:
        return None
    number = int_or(attribute(level, "level"), 1)
    shown = min(max(1, int_or(attribute(level, "display-levels"), 1)), number)
    places = ".".join(f"%{one}%" for one in range(number - shown + 1, number + 1))
    text = f"{attribute(level, 'num-prefix') or ''}{places}{attribute(level, 'num-suffix') or ''}"
    return _Look(
        _NUMERALS.get(written, ""),
        attribute(level, "num-list-format") or text,  # of LibreOffice, which writes both
        int_or(attribute(level, "start-value"), 1),
    )


class _Lists:
    def __init__(self, looks: dict[str, Looks]) -> None:
        self._looks = looks
        self._headings: Numbers = {}
        self._last: dict[str, Numbers] = {}  # of the last list of each style
        self._named: dict[str, Numbers] = {}  # by the identifiers of lists

    def label(self, parent: Element, style: str = "", numbers: Numbers | None = None, level: int = 0) -> None:
        """Label what is below an element. `style`, `numbers` and `level` are of the list around it."""
        for element in parent:
            name = local(element)
            if name == "list":
                own = attribute(element, "style-name") or style
                inner = self._numbers_of(element, own) if numbers is None else numbers
                self.label(element, own, inner, min(level + 1, _MAX_LEVEL))
            elif name in _APART:
                self.label(element)
            else:
                if name == "list-item" and numbers is not None and _has_own_line(element):
                    start = attribute(element, "start-value")
                    _set(element, _next(self._looks.get(style, {}), numbers, level, start))
                elif name == "h" and numbers is None and attribute(element, "is-list-header") != "true":
                    depth = int_or(attribute(element, "outline-level"), 1)
                    _set(
                        element,
                        _next(self._looks.get("", {}), self._headings, depth, attribute(element, "start-value")),
                    )
                self.label(element, style, numbers, level)

    def _numbers_of(self, element: Element, style: str) -> Numbers:
        """Return the numbers with which a list begins: its own, or those of a list that it continues."""
        continued = attribute(element, "continue-list")
        if continued is not None:
            numbers = self._named.get(continued, {})
        else:
            goes_on = attribute(element, "continue-numbering") == "true"
            numbers = self._last.get(style, {}) if goes_on else {}
        self._last[style] = self._named[attribute(element, "id") or ""] = numbers
        return numbers


def _has_own_line(item: Element) -> bool:
    """Whether an item is more than the place of an inner list."""
    return any(local(one) != "list" for one in item)


def _set(element: Element, label: str) -> None:
    if label:
        element.set(LABEL, label)


def _next(looks: Looks, numbers: Numbers, level: int, start: str | None) -> str:
    """Count one item, and return its label."""
    look = looks.get(level)
    for deeper in [one for one in numbers if one > level]:
        del numbers[deeper]
    if look is None:
        return ""
    following = numbers[level] + 1 if level in numbers else look.start
    numbers[level] = int_or(start, following)

    def shown(place: re.Match[str]) -> str:
        above = looks.get(int(place[1]))
        return "" if above is None else numeral(numbers.get(int(place[1]), above.start), above.style)

    return _PLACE.sub(shown, look.text).strip().lstrip(".")
