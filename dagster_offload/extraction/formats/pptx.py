"""The text of PowerPoint presentations, slide by slide: titles and texts, tables, drawings, what the speaker says.

The extractor puts tables before the texts above them, or loses what the speaker says (kreuzberg 4.10.4). Source of the
layout: ECMA-376 part 1, PresentationML.
"""

import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.markdown import table_text
from dagster_offload.extraction.formats.zip_xml import archive_text, attribute, local, parsed, relations

_PRESENTATION = "ppt/presentation.xml"
_NOTES, _DRAWING = "/notesSlide", "/diagramData"  # how relations' types end
_UNREAD_PLACEHOLDERS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})  # page numbers, dates and the like
_TITLES = frozenset({"title", "ctrTitle"})


def pptx_text(data: bytes) -> str:
    """The text of a presentation that is not protected. Raises `BrokenArchive`."""
    return archive_text(data, _slides)


def _slides(archive: zipfile.ZipFile) -> Iterator[str]:
    slides = relations(archive, _PRESENTATION)
    listed = (element for element in parsed(archive, _PRESENTATION).iter() if local(element) == "sldId")
    for element in listed:
        # It has an `id` of its own beside the relation's.
        relation = next(value for key, value in element.attrib.items() if key.endswith("relationships}id"))
        yield from _slide(archive, slides[relation][1])


def _slide(archive: zipfile.ZipFile, member: str) -> Iterator[str]:
    yield from _shapes(parsed(archive, member))
    related = relations(archive, member).values()
    for kind, target in related:
        if kind.endswith(_DRAWING):
            yield "\n".join(_paragraphs(parsed(archive, target)))
    for kind, target in related:
        said = list(_shapes(parsed(archive, target))) if kind.endswith(_NOTES) else []
        if said:
            yield "\n".join(["Notes:", *said])


def _shapes(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "sp":
                kinds = {attribute(child, "type") for child in element.iter() if local(child) == "ph"}
                text = "\n".join(_paragraphs(element))
                if text and not kinds & _UNREAD_PLACEHOLDERS:
                    yield f"## {text}" if kinds & _TITLES else text
            case "tbl":
                rows = [row for row in element if local(row) == "tr"]
                yield table_text([[" ".join(_paragraphs(cell)) for cell in row if local(cell) == "tc"] for row in rows])
            case "Fallback":  # the same again for older programs
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
