"""What the styles in an OpenDocument file say of its text: that it is hidden, raised or struck out.

Only the styles that a program makes for what a person marked by hand are looked at, not those of the document.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.line_marks import RAISED_BEGINS, RAISED_ENDS, STRUCK_BEGINS, STRUCK_ENDS
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

_RAISED = re.compile(r"super|[1-9]\d*%")
CELLS = frozenset({"table-cell", "covered-table-cell"})


def remove_hidden(content: Element) -> None:
    """Remove the text that a person who reads or prints the document does not see."""
    styles = _styles(content, lambda properties: attribute(properties, "display") == "none")
    for element in content.iter():
        name = local(element)
        is_styled = name in ("span", "p", "h") and attribute(element, "style-name") in styles
        if is_styled or (name == "section" and _is_off(element)) or (name in ("p", "h") and any(map(_hides, element))):
            tail = element.tail
            element.clear()
            element.tail = tail


def _is_off(section: Element) -> bool:
    return attribute(section, "display") == "none" or attribute(section, "is-hidden") == "true"


def _hides(field: Element) -> bool:
    """Whether a field hides the paragraph that it is in."""
    return local(field) == "hidden-paragraph" and attribute(field, "is-hidden") == "true"


def mark_text(content: Element) -> None:
    """Mark the text that is raised or struck out."""
    _mark(content, {"span"}, _is_raised, RAISED_BEGINS, RAISED_ENDS)
    _mark(content, {"span", "p", "h"}, _is_struck, STRUCK_BEGINS, STRUCK_ENDS)
    _mark(content, {"span"}, _is_not_struck, STRUCK_ENDS, STRUCK_BEGINS)


def mark_struck_cells(content: Element, sheets: Iterable[Element]) -> None:
    """Mark the text of the cells that are struck out as a whole."""
    styles = _styles(content, _is_struck)
    for sheet in sheets if styles else ():
        for cell, style in _cells(sheet):
            for paragraph in cell if style in styles else ():
                if local(paragraph) == "p":
                    _enclose(paragraph, STRUCK_BEGINS, STRUCK_ENDS)


def _cells(sheet: Element) -> Iterator[tuple[Element, str | None]]:
    """Yield each cell and the name of its style: its own, or else the one of its row or its column."""
    begins: list[int] = [0]
    of_columns: list[str | None] = [None]
    for element in sheet.iter():
        if local(element) == "table-column":
            of_columns[-1] = attribute(element, "default-cell-style-name")
            begins.append(begins[-1] + int_or(attribute(element, "number-columns-repeated"), 1))
            of_columns.append(None)
        elif local(element) == "table-row":
            of_row, column = attribute(element, "default-cell-style-name"), 0
            for cell in (one for one in element if local(one) in CELLS):
                style = of_columns[bisect_right(begins, column) - 1]
                yield cell, attribute(cell, "style-name") or of_row or style
                column += int_or(attribute(cell, "number-columns-repeated"), 1)


def _styles(content: Element, holds: Callable[[Element], bool]) -> set[str | None]:
    """Return the names of the styles of which some properties hold."""
    styles = (element for element in content.iter() if local(element) == "style")
    return {attribute(style, "name") for style in styles if any(map(holds, style))}


def _mark(content: Element, names: set[str], holds: Callable[[Element], bool], begins: str, ends: str) -> None:
    """Mark the text of the elements whose style has such properties."""
    styles = _styles(content, holds)
    for element in content.iter() if styles else ():
        if local(element) in names and attribute(element, "style-name") in styles:
            _enclose(element, begins, ends)


def _enclose(element: Element, begins: str, ends: str) -> None:
    element.text = begins + (element.text or "")
    if len(element):
        element[-1].tail = (element[-1].tail or "") + ends
    else:
        element.text += ends


def _is_raised(properties: Element) -> bool:
    return _RAISED.match(attribute(properties, "text-position") or "") is not None


def _is_struck(properties: Element) -> bool:
    return not _lines_through(properties) <= {"none"}


def _is_not_struck(properties: Element) -> bool:
    """Whether the properties say so. Most say nothing, and leave it to the text around."""
    return _lines_through(properties) == {"none"}


def _lines_through(properties: Element) -> set[str]:
    values = (attribute(properties, f"text-line-through-{name}") for name in ("style", "type"))
    return {value for value in values if value is not None}
