"""Read PowerPoint presentations slide by slide: titles, texts, tables, drawings, charts, speaker notes.

Format specification: ECMA-376 part 1, PresentationML.
"""

from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.parts.chart import CHARTS, chart_text
from dagster_offload.extraction.formats.parts.drawing import paragraphs
from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.formats.parts.picture_marks import picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import (
    archive_text,
    attribute,
    local,
    main_part,
    parsed,
    parsed_if_there,
    relations,
)

_PRESENTATION = "ppt/presentation.xml"
# The ends of relationship types.
_NOTES, _DRAWING, _IMAGE = "/notesSlide", "/diagramData", "/image"
_LAYOUT, _MASTER = "/slideLayout", "/slideMaster"
_UNREAD_PLACEHOLDERS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})  # page numbers, dates and the like
_FOOTER = frozenset({"ftr"})
_TITLES = frozenset({"title", "ctrTitle"})


def pptx_text(data: bytes) -> str:
    """Return the text of an unprotected presentation. Raises `BrokenArchive`."""
    return archive_text(data, _slides)


def _slides(archive: OfficeArchive) -> Iterator[str]:
    """Yield all slides in the order of the presentation, then once each text of layouts, of masters and of footers."""
    presentation = main_part(archive, _PRESENTATION)
    members = relations(archive, presentation)
    # Sections list the slides a second time with other ids. Only the first list has relationships.
    lists = (element for element in parsed(archive, presentation) if local(element) == "sldIdLst")
    slides = [members[_relation(element)][1] for listed in lists for element in listed if local(element) == "sldId"]
    for member in slides:
        yield from _slide(archive, member)
    yield from dict.fromkeys(_backgrounds(archive, slides))
    footers = (text for member in slides for text in _footers(parsed(archive, member)))
    yield from dict.fromkeys(text for text in footers if any(map(str.isalpha, text)))


def _relation(element: Element) -> str:
    # The element may also have an `id` of its own.
    return next(value for key, value in element.attrib.items() if key.endswith("relationships}id"))


def _footers(slide: Element) -> Iterator[str]:
    for shape in slide.iter():
        if local(shape) == "sp" and _kinds(shape) & _FOOTER:
            yield "\n".join(paragraphs(shape))


def _kinds(shape: Element) -> set[str | None]:
    """Return the shape's placeholder types, such as `title` or `ftr`."""
    return {attribute(child, "type") for child in shape.iter() if local(child) == "ph"}


def _is_placeholder(shape: Element) -> bool:
    return any(local(child) == "ph" for child in shape.iter())


def _slide(archive: OfficeArchive, member: str) -> Iterator[str]:
    related = relations(archive, member)
    images = {name: target for name, (kind, target) in related.items() if kind.endswith(_IMAGE)}
    yield from _shapes(parsed(archive, member), images)
    for kind, target in related.values():
        if kind.endswith(_DRAWING):
            yield "\n".join(paragraphs(parsed_if_there(archive, target)))
    for kind, target in related.values():
        if kind.endswith(CHARTS):
            yield chart_text(parsed_if_there(archive, target))
    for kind, target in related.values():
        notes = list(_shapes(parsed_if_there(archive, target))) if kind.endswith(_NOTES) else []
        if notes:
            yield "\n".join(["Notes:", *notes])


def _backgrounds(archive: OfficeArchive, slides: list[str]) -> Iterator[str]:
    """Yield the texts that slides show from their layouts and masters. Placeholders there are prompts, not text."""
    layouts = dict.fromkeys(target for slide in slides for target in _related(archive, slide, _LAYOUT))
    masters = dict.fromkeys(target for layout in layouts for target in _related(archive, layout, _MASTER))
    for member in (*layouts, *masters):
        yield from _shapes(parsed_if_there(archive, member), has_placeholders=False)


def _related(archive: OfficeArchive, member: str, end: str) -> list[str]:
    return [target for kind, target in relations(archive, member).values() if kind.endswith(end)]


def _shapes(
    parent: Element, images: Mapping[str, str] | None = None, *, has_placeholders: bool = True
) -> Iterator[str]:
    """Yield the texts of shapes. `images` are the members of pictures by the ids of their relationships."""
    for element in parent:
        match local(element):
            case "sp":
                kinds = _kinds(element)
                text = "\n".join(paragraphs(element))
                if text and not kinds & _UNREAD_PLACEHOLDERS and (has_placeholders or not _is_placeholder(element)):
                    yield f"## {text}" if kinds & _TITLES else text
            case "tbl":
                rows = [row for row in element if local(row) == "tr"]
                yield table_text([[" ".join(paragraphs(cell)) for cell in row if local(cell) == "tc"] for row in rows])
            case "Fallback":  # a copy for older programs
                pass
            case "blip":
                member = (images or {}).get(attribute(element, "embed") or "")
                if member is not None:
                    yield picture_mark(member)
            case _:
                yield from _shapes(element, images, has_placeholders=has_placeholders)
