"""Read the texts of drawings in Office documents: text boxes, shapes and SmartArt.

Format specification: ECMA-376 part 1, DrawingML.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.line_marks import marked, shown_line
from dagster_offload.extraction.formats.parts.numerals import numeral
from dagster_offload.extraction.formats.parts.office_math import formula_text, is_formula
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

_NUMERALS = {
    "alphaLc": "lower letter", "alphaUc": "upper letter", "romanLc": "lower roman", "romanUc": "upper roman",
    "circleNum": "circled",
}  # fmt: skip
_NOT_STRUCK = "noStrike"
_FALLBACK = "Fallback"  # a copy for older programs, such as the advice to get a newer one


def paragraphs(drawing: Element) -> Iterator[str]:
    """Yield the paragraphs of a drawing that have words. A line break within a paragraph is a line end."""
    numbers = _Numbers()
    for element in drawing:
        if local(element) == "p":
            text = shown_line("".join(_line(element)))
            if text.strip():
                yield numbers.label(element) + text
        elif local(element) != _FALLBACK:
            yield from paragraphs(element)


class _Numbers:
    """Counts the numbered paragraphs of a text box. A paragraph of another kind ends the numbers of its level."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[str, int, int]] = {}  # by level: how it is numbered, its first and its last number

    def label(self, paragraph: Element) -> str:
        """Return the number of the next paragraph with a trailing blank, "" if it has none."""
        properties = next((one for one in paragraph if local(one) == "pPr"), Element("none"))
        level = int_or(attribute(properties, "lvl"), 0)
        numbered = next((one for one in properties if local(one) == "buAutoNum"), None)
        for deeper in [one for one in self._last if one > level or (one == level and numbered is None)]:
            del self._last[deeper]
        if numbered is None:
            return ""
        kind, start = attribute(numbered, "type") or "", int_or(attribute(numbered, "startAt"), 1)
        before = self._last.get(level)
        number = before[2] + 1 if before is not None and before[:2] == (kind, start) else start
        self._last[level] = (kind, start, number)
        return f"{_shown(number, kind)} "


def _shown(number: int, kind: str) -> str:
    """Return a number as its kind shows it (ECMA-376 part 1, 20.1.10.61), such as `alphaLcParenR`."""
    style = next((style for beginning, style in _NUMERALS.items() if kind.startswith(beginning)), "")
    shown = numeral(number, style)
    if kind.endswith("ParenBoth"):
        return f"({shown})"
    return shown + (")" if kind.endswith("ParenR") else "" if kind.endswith("Plain") else ".")


def _line(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "t":
                yield element.text or ""
            case "br":
                yield "\n"
            case "r":
                yield _marked(element, "".join(_line(element)))
            case _ if is_formula(element):
                yield formula_text(element)
            case name if name != _FALLBACK:
                yield from _line(element)


def _marked(run: Element, text: str) -> str:
    """Return the text of a run with marks if it is raised or struck out."""
    for properties in (one for one in run if local(one) == "rPr"):
        is_struck = (attribute(properties, "strike") or _NOT_STRUCK) != _NOT_STRUCK
        text = marked(text, is_raised=int_or(attribute(properties, "baseline"), 0) > 0, is_struck=is_struck)
    return text
