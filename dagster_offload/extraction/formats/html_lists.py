"""Number the lists of HTML pages as a browser does."""

import re
from dataclasses import dataclass

from selectolax.lexbor import LexborNode

from dagster_offload.extraction.formats.parts.numerals import numeral

_MAX_START_DIGITS = 9  # of the number of an item, or of columns
_LIST_STYLE = re.compile(r"list-style(?:-type)?\s*:\s*([a-z-]+)", re.IGNORECASE)
_NUMERALS = {
    **dict.fromkeys(("a", "lower-alpha", "lower-latin"), "lower letter"),
    **dict.fromkeys(("A", "upper-alpha", "upper-latin"), "upper letter"),
    **dict.fromkeys(("i", "lower-roman"), "lower roman"),
    **dict.fromkeys(("I", "upper-roman"), "upper roman"),
    "decimal-leading-zero": "two digits",
}


@dataclass
class NumberedList:
    """A list with numbers."""

    number: int  # of the next item
    step: int
    style: str

    def next(self, own: int | None) -> str:
        """Return the mark of the next item. `own`: the number that the item itself has."""
        number = self.number if own is None else own
        self.number = number + self.step
        return f"{numeral(number, self.style)}. "


def numbered_list(node: LexborNode) -> NumberedList:
    """Return the list that an `ol` element begins."""
    attributes = node.attributes
    named = _LIST_STYLE.search(attributes.get("style") or "")
    style = _NUMERALS.get(named[1].lower() if named else attributes.get("type") or "", "")
    is_reversed = "reversed" in attributes
    first = sum(child.tag == "li" for child in node.iter()) if is_reversed else 1
    start = whole_number(node, "start")
    return NumberedList(first if start is None else start, -1 if is_reversed else 1, style)


def whole_number(node: LexborNode, name: str) -> int | None:
    """Return the number in an attribute, None for one that is missing or damaged."""
    value = (node.attributes.get(name) or "").strip()
    return int(value) if value.removeprefix("-").isdecimal() and len(value) <= _MAX_START_DIGITS else None
