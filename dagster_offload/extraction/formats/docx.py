"""Read Word documents (DOCX): headings, numbered paragraphs, tables, notes, text boxes, headers and footers.

Format specification: ECMA-376 part 1, WordprocessingML.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.chart import chart_text
from dagster_offload.extraction.formats.parts.list_numbers import BULLET, ListLevel, ListNumbers
from dagster_offload.extraction.formats.parts.markdown import note_text, table_text
from dagster_offload.extraction.formats.parts.picture_marks import picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import (
    archive_text,
    attribute,
    local,
    parsed,
    parsed_if_there,
    relations,
)

_DOCUMENT = "word/document.xml"
_HEADER, _FOOTER, _CHART, _IMAGE = "/header", "/footer", "/chart", "/image"  # the ends of relationship types
_INLINE = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Tracked deletions, field codes, and copies for older programs.
_NOT_TEXT = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr"})
_PICTURES = frozenset({"blip", "imagedata"})  # of Word 2007 and later, and of older versions
_NOTES = {"footnoteReference": "word/footnotes.xml", "endnoteReference": "word/endnotes.xml"}
_NUMERALS = {
    "bullet": BULLET,
    "upperLetter": "upper letter", "lowerLetter": "lower letter", "upperRoman": "upper roman",
    "lowerRoman": "lower roman", "decimalZero": "two digits", "decimalEnclosedCircle": "circled",
    "ganada": "syllable", "chosung": "jamo", "koreanCounting": "korean", "koreanDigital": "korean",
    "chineseCounting": "ideograph", "japaneseCounting": "ideograph", "taiwaneseCounting": "ideograph",
}  # fmt: skip
_MAX_STYLE_DEPTH = 20  # styles based on one another


def docx_text(data: bytes) -> str:
    """Return the text of an unprotected document. Raises `BrokenArchive`."""
    return archive_text(data, lambda archive: _Document(archive).texts())


@dataclass
class _Style:
    base: str | None
    heading: int | None  # from 1
    numbering: tuple[str, int] | None


class _Document:
    """One document: its body, and the styles, numbering, charts and notes that it refers to."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.styles = {attribute(style, "styleId"): _style(style) for style in _styles(archive)}
        self.numbering = ListNumbers(_list_levels(archive))
        related = relations(archive, _DOCUMENT).items()
        self.charts = {name: member for name, (kind, member) in related if kind.endswith(_CHART)}
        self.images = {name: member for name, (kind, member) in related if kind.endswith(_IMAGE)}
        self.notes = {
            (reference, attribute(note, "id")): note
            for reference, member in _NOTES.items()
            for note in parsed_if_there(archive, member)
        }

    def texts(self) -> Iterator[str]:
        """Yield the headers of pages, the body, and the footers."""
        yield from self._margins(_HEADER)
        yield from self._blocks(parsed(self.archive, _DOCUMENT))
        yield from self._margins(_FOOTER)

    def _margins(self, kind: str) -> Iterator[str]:
        """Yield each different header (or footer) once. Skips those without letters, such as page numbers."""
        related = relations(self.archive, _DOCUMENT).values()
        members = sorted({member for relation_type, member in related if relation_type.endswith(kind)})
        images, self.images = self.images, {}  # a margin has relationships of its own, and its pictures are logos
        texts = ["\n".join(self._blocks(parsed_if_there(self.archive, member))) for member in members]
        self.images = images
        yield from dict.fromkeys(text for text in texts if any(map(str.isalpha, text)))

    def _blocks(self, parent: Element) -> Iterator[str]:
        for element in parent:
            match local(element):
                case "p":
                    yield from self._paragraph(element)
                case "tbl":
                    rows = list(_inside(element, "tr"))
                    yield table_text([["\n".join(self._blocks(cell)) for cell in _inside(row, "tc")] for row in rows])
                case name if name not in _NOT_TEXT:
                    yield from self._blocks(element)

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        """Yield the paragraph's line, then its notes in brackets, its text boxes and charts."""
        boxes: list[Element] = []
        notes: list[Element] = []
        line = "".join(self._line(paragraph, boxes, notes))
        if line.strip():
            yield self._mark(paragraph) + line
        for note in notes:
            yield note_text(self._blocks(note))
        for box in boxes:
            if local(box) in _PICTURES:
                yield picture_mark(self.images[_image_id(box)])
            elif local(box) == "chart":
                yield chart_text(parsed(self.archive, self.charts[attribute(box, "id") or ""]))
            else:
                yield from self._blocks(box)

    def _line(self, parent: Element, boxes: list[Element], notes: list[Element]) -> Iterator[str]:
        for element in parent:
            name = local(element)
            if name == "t":
                yield element.text or ""
            elif name in _INLINE:
                yield _INLINE[name]
            elif name == "txbxContent" or self._is_drawn(element):
                boxes.append(element)
            elif name in _NOTES:
                note = self.notes.get((name, attribute(element, "id")))
                if note is not None:
                    notes.append(note)
            elif name not in _NOT_TEXT:
                yield from self._line(element, boxes, notes)

    def _is_drawn(self, element: Element) -> bool:
        """Whether this is a chart or a picture of this document."""
        name = local(element)
        if name == "chart":
            return attribute(element, "id") in self.charts
        return name in _PICTURES and _image_id(element) in self.images

    def _mark(self, paragraph: Element) -> str:
        """Return the Markdown mark of a heading, or the label of a numbered paragraph."""
        own = _style(paragraph)
        heading, numbering = own.heading, own.numbering
        base = own.base
        for _ in range(_MAX_STYLE_DEPTH):
            style = self.styles.get(base)
            if style is None:
                break
            heading, numbering, base = heading or style.heading, numbering or style.numbering, style.base
        label = self.numbering.next(*numbering) if numbering is not None else ""
        return ("#" * min(heading, 6) + " " + label.removeprefix("- ")) if heading else label


def _image_id(picture: Element) -> str:
    return attribute(picture, "embed") or attribute(picture, "id") or ""


def _style(holder: Element) -> _Style:
    """Return the paragraph properties of a style or a paragraph."""
    properties = dict(_properties(holder))
    is_title = (properties.get("name") or "").lower() == "title"
    outline = _int_or(properties.get("outlineLvl"), 9)
    number = properties.get("numId")
    return _Style(
        base=properties.get("basedOn") or properties.get("pStyle"),
        heading=1 if is_title else outline + 1 if outline < 9 else None,
        numbering=None if number is None else (number, _int_or(properties.get("ilvl"), 0)),
    )


def _properties(holder: Element) -> Iterator[tuple[str, str | None]]:
    """Yield properties and their values, without those of the paragraph's runs and text boxes."""
    for element in holder:
        if local(element) in ("pPr", "numPr"):
            yield from _properties(element)
        else:
            yield local(element), attribute(element, "val")


def _styles(archive: zipfile.ZipFile) -> list[Element]:
    return [style for style in parsed_if_there(archive, "word/styles.xml") if attribute(style, "type") == "paragraph"]


def _list_levels(archive: zipfile.ZipFile) -> dict[tuple[str, int], ListLevel]:
    root = parsed_if_there(archive, "word/numbering.xml")
    abstract = {attribute(one, "abstractNumId"): one for one in root if local(one) == "abstractNum"}
    levels = {}
    for one in root:
        if local(one) != "num":
            continue
        refers_to = next((attribute(child, "val") for child in one if local(child) == "abstractNumId"), None)
        for level in abstract.get(refers_to, Element("nothing")):
            if local(level) == "lvl":
                values = {local(child): attribute(child, "val") or "" for child in level}
                key = (attribute(one, "numId") or "", _int_or(attribute(level, "ilvl"), 0))
                style = _NUMERALS.get(values.get("numFmt", ""), "")
                levels[key] = ListLevel(style, values.get("lvlText", ""), _int_or(values.get("start"), 1))
    return levels


def _inside(parent: Element, name: str) -> Iterator[Element]:
    """Yield the rows of a table or the cells of a row, also those in content controls, without nested tables."""
    for element in parent:
        if local(element) == name:
            yield element
        elif local(element) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _inside(element, name)


def _int_or(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdecimal() else otherwise
