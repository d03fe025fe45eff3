"""Read Hangul documents in HWPX in reading order: tables in place, notes after their paragraph, numbers of lists.

Format specification: the OWPML standard KS X 6101.
"""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.hangul.numbers import NAMED_STYLES, Heading, Level, Numbers
from dagster_offload.extraction.formats.parts.markdown import Row, note_text, placed_table_text
from dagster_offload.extraction.formats.parts.picture_marks import picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import (
    archive_text,
    attribute,
    int_or,
    local,
    parsed,
    parsed_if_there,
)

_HEADER, _MANIFEST = "Contents/header.xml", "Contents/content.hpf"
_SECTION = re.compile(r"Contents/section(\d+)\.xml")
_INNER = {"tab": "\t", "lineBreak": "\n", "hyphen": "-", "nbSpace": " ", "fwSpace": " "}
_HEADING_KINDS = frozenset({"NUMBER", "OUTLINE"})
# Objects that stand in a paragraph's line like letters. The others follow the line.
_FORM_FIELDS = frozenset({"btn", "checkBtn", "radioBtn", "comboBox", "listBox", "edit"})
_IN_LINE = _FORM_FIELDS | {"t", "dutmal", "compose"}


def hwpx_text(data: bytes) -> str:
    """Return the text of an unprotected HWPX document. Raises `BrokenArchive`."""
    return archive_text(data, lambda archive: _Document(archive).texts())


class _Document:
    """One document: its numberings and pictures, and whether the reader is inside a tracked deletion."""

    def __init__(self, archive: OfficeArchive) -> None:
        self.archive = archive
        header = parsed_if_there(archive, _HEADER)
        self.headings = dict(_headings(header))
        self.numbers = Numbers(dict(_numberings(header)))
        manifest = parsed_if_there(archive, _MANIFEST)
        self.pictures = {
            attribute(item, "id") or "": attribute(item, "href") or ""
            for item in manifest.iter()
            if local(item) == "item"
        }
        self.is_deleted = False

    def texts(self) -> Iterator[str]:
        found = sorted((int(match[1]), match[0]) for match in map(_SECTION.fullmatch, self.archive.namelist()) if match)
        if not found:
            raise LookupError("no section")
        for _, name in found:
            section = parsed(self.archive, name)
            outline = next((value for one in section.iter() if (value := attribute(one, "outlineShapeIDRef"))), "")
            self.numbers.outline = int_or(outline, 0)
            yield from self._elements(section)

    def _elements(self, parent: Element) -> Iterator[str]:
        for element in parent:
            match local(element):
                case "p":
                    yield from self._paragraph(element)
                case "tbl":
                    rows = [row for row in element if local(row) == "tr"]
                    for caption in (child for child in element if local(child) == "caption"):
                        yield from self._elements(caption)
                    yield placed_table_text([self._row(row) for row in rows])
                case "footNote" | "endNote":
                    yield note_text(self._elements(element))
                case "fieldBegin" if attribute(element, "type") == "MEMO":
                    pass  # a comment, as those of other formats: it is not printed
                case "hiddenComment":
                    pass
                case "script":  # of an equation
                    yield element.text or ""
                case "img" if member := self.pictures.get(attribute(element, "binaryItemIDRef") or ""):
                    yield picture_mark(member)
                case "textart":
                    yield attribute(element, "text") or ""
                case _:
                    yield from self._elements(element)

    def _row(self, row: Element) -> Row:
        """Return the texts of a row's cells by their columns."""
        return {_column(cell, place): "\n".join(self._elements(cell)) for place, cell in enumerate(row)}

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        """Yield a paragraph's line, then the objects anchored in it."""
        line: list[str] = []
        anchored = Element("anchored")
        for element in _run_elements(paragraph):
            if local(element) in _IN_LINE:
                line.append(self._in_line(element))
            else:
                anchored.append(element)
        text = "".join(line)
        if text.strip():
            yield self.numbers.label(self.headings.get(attribute(paragraph, "paraPrIDRef") or "")) + text
        yield from self._elements(anchored)

    def _in_line(self, element: Element) -> str:
        match local(element):
            case "t":
                return self._mixed(element)
            case "dutmal":  # a word and a gloss above or below it
                parts = {local(child): "".join(child.itertext()) for child in element}
                gloss = parts.get("subText", "")
                return parts.get("mainText", "") + (f"({gloss})" if gloss else "")
            case "compose":  # letters printed over each other
                return attribute(element, "composeText") or ""
            case _:
                return _form_value(element)

    def _mixed(self, element: Element) -> str:
        """Return the text of an element that mixes text with tabs, line breaks and marks, without tracked deletions."""
        parts = ["" if self.is_deleted else element.text or ""]
        for child in element:
            match local(child):
                case "deleteBegin":
                    self.is_deleted = True
                case "deleteEnd":
                    self.is_deleted = False
                case name:
                    parts.append("" if self.is_deleted else _INNER.get(name) or self._mixed(child))
            parts.append("" if self.is_deleted else child.tail or "")
        return "".join(parts)


def _run_elements(paragraph: Element) -> Iterator[Element]:
    for run in paragraph:
        for element in run:
            yield from element if local(element) == "ctrl" else (element,)


def _column(cell: Element, place: int) -> int:
    """Return the column of a cell: cells that others cover are left out. `place`: the cell's place in its row."""
    return next((int_or(attribute(one, "colAddr"), place) for one in cell if local(one) == "cellAddr"), place)


def _form_value(field: Element) -> str:
    """Return what a form field shows: its caption with a mark, its selected value, or its text."""
    caption = attribute(field, "caption") or ""
    match local(field):
        case "checkBtn" | "radioBtn":
            return f"[{'x' if attribute(field, 'value') == 'CHECKED' else ' '}] {caption}"
        case "comboBox" | "listBox":
            selected = attribute(field, "selectedValue") or ""
            items = {attribute(item, "value"): attribute(item, "displayText") for item in field}
            return items.get(selected) or selected
        case "edit":
            return "".join("".join(child.itertext()) for child in field if local(child) == "text")
        case _:
            return caption


def _headings(header: Element) -> Iterator[tuple[str, Heading]]:
    """Yield the numbered paragraph shapes by id."""
    for shape in header.iter():
        if local(shape) != "paraPr":
            continue
        for heading in (child for child in shape if local(child) == "heading"):
            kind, level = attribute(heading, "type"), int_or(attribute(heading, "level"), 0)
            if kind in _HEADING_KINDS:
                numbering = None if kind == "OUTLINE" else int_or(attribute(heading, "idRef"), 0)
                yield attribute(shape, "id") or "", Heading(numbering, level)


def _numberings(header: Element) -> Iterator[tuple[int, list[Level]]]:
    for numbering in header.iter():
        if local(numbering) == "numbering" and attribute(numbering, "id"):
            heads = [child for child in numbering if local(child) == "paraHead"]
            heads.sort(key=lambda head: int_or(attribute(head, "level"), 0))
            yield int_or(attribute(numbering, "id"), 0), [_level(head) for head in heads]


def _level(head: Element) -> Level:
    style = NAMED_STYLES.get(attribute(head, "numFormat") or "", "decimal")
    return Level("".join(head.itertext()), style, int_or(attribute(head, "start"), 1))
