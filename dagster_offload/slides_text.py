"""The text of presentations (PPTX, ODP), slide by slide: titles and texts, tables, drawings, what the speaker says.

The extractor does not know ODP, and of PPTX it puts tables before the texts above them, or loses what the speaker says
(kreuzberg 4.10.4). Source of the layouts: ECMA-376 part 1 (PresentationML) and OpenDocument 1.3, part 3.
"""

import io
import posixpath
import zipfile
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

from dagster_offload.file_kinds import DAMAGE
from dagster_offload.table_text import table_text

_PRESENTATION = "ppt/presentation.xml"
_RELATION_ID = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_NOTES, _DRAWING = "/notesSlide", "/diagramData"  # how relations' types end
_UNREAD_PLACEHOLDERS = frozenset({"sldNum", "dt", "ftr", "hdr", "sldImg"})  # page numbers, dates and the like
_TITLES = frozenset({"title", "ctrTitle"})
_BLANKS = {"tab": "\t", "line-break": "\n", "s": " ", "br": "\n"}

Relations = dict[str, tuple[str, str]]  # id -> type, member


class NotSlides(Exception):  # noqa: N818 - says what the file is not
    """The file is no presentation, or a broken one."""


def odp_text(data: bytes) -> str:
    """The text of an OpenDocument presentation that is not protected. Raises `NotSlides`."""
    return _opened(data, lambda archive: _open_document(_xml(archive, "content.xml")))


def pptx_text(data: bytes) -> str:
    """The text of a PowerPoint presentation that is not protected. Raises `NotSlides`."""
    return _opened(data, _slides)


def _opened(data: bytes, read: Callable[[zipfile.ZipFile], Iterator[str]]) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "\n\n".join(text for text in read(archive) if text.strip())
    except DAMAGE as error:
        raise NotSlides(type(error).__name__) from None


def _xml(archive: zipfile.ZipFile, member: str) -> ElementTree.Element:
    # Why it may be parsed here: expat fetches nothing, and this process has limits of time and memory.
    return ElementTree.fromstring(archive.read(member))  # noqa: S314


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _open_document(parent: ElementTree.Element) -> Iterator[str]:
    for element in parent:
        match _local(element):
            case "p" | "h":
                yield _characters(element)
            case "notes":
                yield from _said(_open_document(element))
            case "list":
                yield "\n".join(f"- {text}" for text in _open_document(element) if text.strip())
            case "table":
                rows = [row for row in element.iter() if _local(row) == "table-row"]
                yield table_text([[" ".join(_open_document(cell)) for cell in row] for row in rows])
            case _:
                yield from _open_document(element)


def _characters(element: ElementTree.Element) -> str:
    parts = [element.text or ""]
    for child in element:
        parts += [_BLANKS.get(_local(child), _characters(child)), child.tail or ""]
    return "".join(parts)


def _said(texts: Iterator[str]) -> Iterator[str]:
    said = [text for text in texts if text.strip()]
    if said:
        yield "\n".join(["Notes:", *said])


def _slides(archive: zipfile.ZipFile) -> Iterator[str]:
    slides = _relations(archive, _PRESENTATION)
    for element in _xml(archive, _PRESENTATION).iter():
        if _local(element) == "sldId":
            yield from _slide(archive, slides[element.attrib[_RELATION_ID]][1])


def _slide(archive: zipfile.ZipFile, member: str) -> Iterator[str]:
    yield from _shapes(_xml(archive, member))
    related = _relations(archive, member).values()
    for kind, target in related:
        if kind.endswith(_DRAWING):
            yield "\n".join(_paragraphs(_xml(archive, target)))
    for kind, target in related:
        if kind.endswith(_NOTES):
            yield from _said(_shapes(_xml(archive, target)))


def _shapes(parent: ElementTree.Element) -> Iterator[str]:
    for element in parent:
        match _local(element):
            case "sp":
                kinds = {child.get("type") for child in element.iter() if _local(child) == "ph"}
                text = "\n".join(_paragraphs(element))
                if text and not kinds & _UNREAD_PLACEHOLDERS:
                    yield f"## {text}" if kinds & _TITLES else text
            case "tbl":
                rows = [row for row in element if _local(row) == "tr"]
                yield table_text(
                    [[" ".join(_paragraphs(cell)) for cell in row if _local(cell) == "tc"] for row in rows]
                )
            case "Fallback":  # the same again for older programs
                pass
            case _:
                yield from _shapes(element)


def _paragraphs(parent: ElementTree.Element) -> Iterator[str]:
    for element in parent.iter():
        if _local(element) == "p":
            inner = (child for child in element.iter() if _local(child) in ("t", "br"))
            text = "".join(_BLANKS.get(_local(child), child.text or "") for child in inner)
            if text.strip():
                yield text


def _relations(archive: zipfile.ZipFile, member: str) -> Relations:
    """What a member refers to, by id: the kind of relation and the other member."""
    folder, name = posixpath.split(member)
    place = f"{folder}/_rels/{name}.rels"
    if place not in archive.namelist():
        return {}
    return {
        one.attrib["Id"]: (one.attrib["Type"], _member(folder, one.attrib["Target"]))
        for one in _xml(archive, place)
        if one.get("TargetMode") != "External"
    }


def _member(folder: str, target: str) -> str:
    return target[1:] if target.startswith("/") else posixpath.normpath(f"{folder}/{target}")
