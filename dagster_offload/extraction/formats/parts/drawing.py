"""Read the texts of drawings in Office documents: text boxes, shapes and SmartArt.

Format specification: ECMA-376 part 1, DrawingML.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.office_math import formula_text, is_formula
from dagster_offload.extraction.formats.parts.raised import raised, with_raised_digits
from dagster_offload.extraction.formats.parts.zip_xml import attribute, int_or, local

_FALLBACK = "Fallback"  # a copy for older programs, such as the advice to get a newer one


def paragraphs(drawing: Element) -> Iterator[str]:
    """Yield the paragraphs of a drawing that have words. A line break within a paragraph is a line end."""
    if local(drawing) == "p":
        text = with_raised_digits("".join(_line(drawing)))
        if text.strip():
            yield text
    elif local(drawing) != _FALLBACK:
        for element in drawing:
            yield from paragraphs(element)


def _line(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "t":
                yield element.text or ""
            case "br":
                yield "\n"
            case "r" if _is_raised(element):
                yield raised("".join(_line(element)))
            case _ if is_formula(element):
                yield formula_text(element)
            case name if name != _FALLBACK:
                yield from _line(element)


def _is_raised(run: Element) -> bool:
    return any(int_or(attribute(one, "baseline"), 0) > 0 for one in run if local(one) == "rPr")
