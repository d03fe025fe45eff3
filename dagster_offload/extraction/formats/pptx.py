"""Read PowerPoint presentations slide by slide: titles, texts, tables, drawings, charts, speaker notes.

kreuzberg 4.10.4 puts tables before the texts above them, or loses speaker notes. Format specification: ECMA-376 part 1,
PresentationML.
"""

import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.chart import chart_text
from dagster_offload.extraction.formats.markdown import table_text
from dagster_offload.extraction.formats.zip_xml import archive_text, attribute, local, parsed, relations

_PRESENTATION = "ppt/presentation.xml"
_NOTES, _DRAWING, _CHART = "/notesSlide", "/diagramData", "/chart"  # the ends of relationship types
_UNREAD_PLACEHOLDERS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})  # page numbers, dates and the like
_FOOTER = frozenset({"ftr"})
_TITLES = frozenset({"title", "ctrTitle"})


def pptx_text(data: bytes) -> str:
    """Return the text of an unprotected presentation. Raises `BrokenArchive`."""
    return archive_text(data, _slides)


def _slides(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield all slides in the order of the presentation, then each different footer once."""
    members = relations(archive, _PRESENTATION)
    # Sections list the slides a second time with other ids. Only the first list has relationships.
    lists = (element for element in parsed(archive, _PRESENTATION) if local(element) == "sldIdLst")
    slides = [members[_relation(element)][1] for listed in lists for element in listed if local(element) == "sldId"]
    for member in slides:
        yield from _slide(archive, member)
    footers = (text for member in slides for text in _footers(parsed(archive, member)))
    yield from dict.fromkeys(text for text in footers if any(map(str.isalpha, text)))


def _relation(element: Element) -> str:
    # The element may also have an `id` of its own.
    return next(value for key, value in element.attrib.items() if key.endswith("relationships}id"))


def _footers(slide: Element) -> Iterator[str]:
    for shape in slide.iter():
        if local(shape) == "sp" and _kinds(shape) & _FOOTER:
            yield "\n".join(_paragraphs(shape))


def _kinds(shape: Element) -> set[str | None]:
    """Return the shape's placeholder types, such as `title` or `ftr`."""
    return {attribute(child, "type") for child in shape.iter() if local(child) == "ph"}


def _slide(archive: zipfile.ZipFile, member: str) -> Iterator[str]:
    yield from _shapes(parsed(archive, member))
    related = relations(archive, member).values()
    for kind, target in related:
        if kind.endswith(_DRAWING):
            yield "\n".join(_paragraphs(parsed(archive, target)))
    for kind, target in related:
        if kind.endswith(_CHART):
            yield chart_text(parsed(archive, target))
    for kind, target in related:
        notes = list(_shapes(parsed(archive, target))) if kind.endswith(_NOTES) else []
        if notes:
            yield "\n".join(["Notes:", *notes])


def _shapes(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "sp":
                kinds = _kinds(element)
                text = "\n".join(_paragraphs(element))
                if text and not kinds & _UNREAD_PLACEHOLDERS:
                    yield f"## {text}" if kinds & _TITLES else text
            case "tbl":
                rows = [row for row in element if local(row) == "tr"]
                yield table_text([[" ".join(_paragraphs(cell)) for cell in row if local(cell) == "tc"] for row in rows])
            case "Fallback":  # a copy for older programs
                pass
            case _:
                yield from _shapes(element)


def _paragraphs(parent: Element) -> Iterator[str]:
    for element in parent.iter():
        if local(element) == "p":
            inner = (child for child in element.iter() if local(child) in ("t", "br"))
            text = "".join("\n" if local(child) == "br" else child.text or "" for child in inner)
            if text.strip():
                yield text
