"""Read Word documents (DOCX): headings, numbered paragraphs, tables, notes, text boxes, headers and footers.

Format specification: ECMA-376 part 1, WordprocessingML.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS, OfficeArchive, is_archive
from dagster_offload.extraction.formats.office.docx_lists import OFF, is_on, list_numbers
from dagster_offload.extraction.formats.office.docx_margins import shown_margins
from dagster_offload.extraction.formats.office.inserted import inserted_text
from dagster_offload.extraction.formats.parts.chart import CHARTS, chart_text
from dagster_offload.extraction.formats.parts.drawing import paragraphs
from dagster_offload.extraction.formats.parts.fields import OpenFields, shown_by_field
from dagster_offload.extraction.formats.parts.line_marks import marked, shown_line
from dagster_offload.extraction.formats.parts.markdown import Row, note_text, placed_table_text
from dagster_offload.extraction.formats.parts.office_math import formula_text, is_formula
from dagster_offload.extraction.formats.parts.picture_marks import filled, picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import (
    BrokenArchive,
    archive_text,
    attribute,
    int_or,
    local,
    main_part,
    parsed,
    parsed_if_there,
    relations,
)
from dagster_offload.extraction.symbol_fonts import symbol

_DOCUMENT = "word/document.xml"
# The ends of relationship types.
_HEADER, _FOOTER, _IMAGE = "/header", "/footer", "/image"
_DRAWING, _INSERTED = "/diagramData", "/aFChunk"
_INLINE = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
# Tracked deletions, field codes, and copies for older programs.
_SHOWN = frozenset({"t", "sym", *_INLINE})
_NOT_TEXT = frozenset({"del", "moveFrom", "delText", "Fallback", "pPr", "rPr"})
_PICTURES = frozenset({"blip", "imagedata"})  # of Word 2007 and later, and of older versions
_DRAWN = _PICTURES | {"chart", "relIds"}
_STRUCK = ("strike", "dstrike")
_GONE = frozenset({"del", "moveFrom"})
_NOTES = {"footnoteReference": "footnotes", "endnoteReference": "endnotes"}
_MAX_SPAN = 100  # columns; Word has at most 63
_MAX_STYLE_DEPTH = 20  # styles based on one another
_MAX_INSERTED_DEPTH = 3  # documents inserted into one another


def docx_text(data: bytes, depth: int = 0) -> str:
    """Return the text of an unprotected document. Raises `BrokenArchive`.

    `depth` is the number of documents around this one, each inserted into the next.
    """
    if depth > _MAX_INSERTED_DEPTH:
        raise BrokenArchive("inserted too deeply")
    return archive_text(data, lambda archive: _Document(archive, depth).texts())


@dataclass
class _Style:
    base: str | None
    heading: int | None  # from 1
    numbering: tuple[str, int] | None
    is_hidden: bool | None  # None: as in the style that it is based on


@dataclass
class _Aside:
    """What a line of text is in, and what belongs beside it."""

    is_hidden: bool
    boxes: list[Element] = field(default_factory=list)
    notes: list[Element] = field(default_factory=list)
    fields: OpenFields = field(default_factory=OpenFields)


class _Document:
    """One document: its body, and the styles, numbering, charts and notes that it refers to."""

    def __init__(self, archive: OfficeArchive, depth: int) -> None:
        self.archive = archive
        self.depth = depth
        self.has_lost_part = False
        self.document = main_part(archive, _DOCUMENT)
        self.related = relations(archive, self.document)
        self.styles = {name: _style(style) for style in self._part("styles") if (name := attribute(style, "styleId"))}
        self.numbering = list_numbers(self._part("numbering"))
        self.notes = {
            (reference, attribute(note, "id")): note for reference, name in _NOTES.items() for note in self._part(name)
        }

    def texts(self) -> Iterator[str]:
        """Yield the headers of pages, the body, and the footers."""
        document = parsed(self.archive, self.document)
        texts = [*self._margins(document, _HEADER), *self._blocks(document), *self._margins(document, _FOOTER)]
        if self.has_lost_part and not any(map(str.strip, texts)):
            raise BrokenArchive("its only text is an inserted part that cannot be read")
        yield from texts

    def _part(self, name: str) -> Element:
        """Return another part of the document, such as its styles; an empty element if it has none."""
        return parsed_if_there(self.archive, next(iter(self._members(f"/{name}")), f"word/{name}.xml"))

    def _members(self, end: str) -> list[str]:
        """Return the members of a type of relationship."""
        return sorted({member for kind, member in self.related.values() if kind.endswith(end)})

    def _linked(self, identity: str | None, end: str | tuple[str, ...]) -> str:
        """Return the member with this id of a relationship, "" if it is of another type."""
        kind, member = self.related.get(identity or "", ("", ""))
        return member if kind.endswith(end) else ""

    def _margins(self, document: Element, kind: str) -> Iterator[str]:
        """Yield each different header (or footer) once. Skips those without letters, such as page numbers."""
        of_document, texts = self.related, []
        shown = shown_margins(document, self._part("settings"), f"{kind[1:]}Reference")
        members = self._members(kind) if shown is None else filter(None, (self._linked(one, kind) for one in shown))
        for member in list(members):
            related = relations(self.archive, member).items()
            self.related = {name: link for name, link in related if not link[0].endswith(_IMAGE)}  # logos
            texts.append("\n".join(self._blocks(parsed_if_there(self.archive, member))))
            self.related = of_document
        yield from dict.fromkeys(text for text in texts if any(map(str.isalpha, text)))

    def _blocks(self, parent: Element) -> Iterator[str]:
        for element in parent:
            match local(element):
                case "p":
                    yield from self._paragraph(element)
                case "tbl":
                    yield placed_table_text([self._row(row) for row in _inside(element, "tr")])
                case "altChunk" if member := self._linked(attribute(element, "id"), _INSERTED):
                    yield self._inserted_text(member)
                case name if name not in _NOT_TEXT:
                    yield from self._blocks(element)

    def _row(self, row: Element) -> Row:
        """Return the texts of a row's cells by the columns of the table's grid in which they begin."""
        texts, column = {}, _span(row, "gridBefore")
        for cell in _inside(row, "tc"):
            texts[column] = "\n".join(self._blocks(cell)) if _is_first_of_merged(cell) else ""
            column += max(1, _span(cell, "gridSpan"))
        return texts

    def _inserted_text(self, member: str) -> str:
        """Return the text of an inserted part, "" if it cannot be read."""
        try:
            data = self.archive.read(member)
            # Pictures of an inserted document are left out: their names are those of another archive.
            return filled(docx_text(data, self.depth + 1), {}) if is_archive(data) else inserted_text(data)
        except (*DAMAGE_ERRORS, BrokenArchive):  # or an encrypted mail
            self.has_lost_part = True
            return ""

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        """Yield the paragraph's line, then its notes in brackets, its text boxes and charts."""
        aside = _Aside(self._hides(_paragraph_style(paragraph)))
        line = shown_line("".join(self._line(paragraph, aside)))
        if line.strip():
            yield self._mark(paragraph) + line
        elif not aside.is_hidden and _has_shown_end(paragraph) and (mark := self._mark(paragraph)).strip("#- "):
            yield mark.rstrip()  # of a row whose first cell holds only its number, or of a picture
        for note in aside.notes:
            yield note_text(self._blocks(note))
        for box in aside.boxes:
            if local(box) == "txbxContent":
                yield from self._blocks(box)
            elif drawn := self._drawn(box):
                yield drawn

    def _drawn(self, element: Element) -> str:
        """Return the text of a chart or a drawing (SmartArt), the mark of a picture, "" if it is none of these."""
        match local(element):
            case "chart" if member := self._linked(attribute(element, "id"), CHARTS):
                return chart_text(parsed_if_there(self.archive, member))
            case "relIds" if member := self._linked(attribute(element, "dm"), _DRAWING):
                return "\n".join(paragraphs(parsed_if_there(self.archive, member)))
            case name if name in _PICTURES and (member := self._linked(_image_id(element), _IMAGE)):
                return picture_mark(member)
        return ""

    def _hides(self, style: str | None) -> bool:
        """Whether text of this style is hidden. The style decides, or the nearest of those below it that has the property."""
        return next((found.is_hidden for found in self._styles_of(style) if found.is_hidden is not None), False)

    def _is_hidden(self, run: Element, is_paragraph_hidden: bool) -> bool:
        if (own := _vanish(run)) is not None:
            return own
        return is_paragraph_hidden or self._hides(dict(_run_properties(run)).get("rStyle"))

    def _line(self, parent: Element, aside: _Aside) -> Iterator[str]:
        for element in parent:
            name = local(element)
            if name == "r" and self._is_hidden(element, aside.is_hidden):
                continue
            if name == "r":
                yield _marked(element, "".join(self._line(element, aside)))
            elif name in _SHOWN:
                yield "" if aside.fields.are_shown else _shown(name, element)
            elif is_formula(element):
                yield formula_text(element)
            elif name == "instrText":
                aside.fields.instruct(element.text or "")
            elif name == "fldSimple" and (shown := shown_by_field(attribute(element, "instr") or "")):
                yield shown
            elif name == "ffData":
                yield _form_value(element)
            elif name == "txbxContent" or name in _DRAWN:
                aside.boxes.append(element)
            elif name in _NOTES:
                note = self.notes.get((name, attribute(element, "id")))
                if note is not None:
                    aside.notes.append(note)
            elif name not in _NOT_TEXT:
                if name == "fldChar":
                    yield aside.fields.border(attribute(element, "fldCharType"))
                yield from self._line(element, aside)

    def _mark(self, paragraph: Element) -> str:
        """Return the Markdown mark of a heading, or the label of a numbered paragraph."""
        own = _style(paragraph)
        heading, numbering = own.heading, own.numbering
        for style in self._styles_of(own.base):
            heading, numbering = heading or style.heading, numbering or style.numbering
        label = self.numbering.next(*numbering) if numbering is not None else ""
        return ("#" * min(heading, 6) + " " + label.removeprefix("- ")) if heading else label

    def _styles_of(self, name: str | None) -> Iterator[_Style]:
        """Yield the style, then the one that it is based on, and so on."""
        for _ in range(_MAX_STYLE_DEPTH):
            style = self.styles.get(name or "")
            if style is None:
                return
            yield style
            name = style.base


def _marked(run: Element, text: str) -> str:
    """Return the text of a run with marks if it is raised or struck out."""
    properties = dict(_run_properties(run))
    is_struck = any(name in properties and properties[name] not in OFF for name in _STRUCK)
    return marked(text, is_raised=properties.get("vertAlign") == "superscript", is_struck=is_struck)


def _shown(name: str, element: Element) -> str:
    return _symbol(element) if name == "sym" else _INLINE.get(name) or element.text or ""


def _symbol(element: Element) -> str:
    """Return a character that is given by its font and its number (ECMA-376 part 1, 17.3.3.30), "" for a damaged one."""
    try:
        code = int(attribute(element, "char") or "", 16)
        return symbol(code, attribute(element, "font") or "") or chr(code)
    except (ValueError, OverflowError):
        return ""


def _form_value(field: Element) -> str:
    """Return what a check box or a list of choices shows. The text of a text field is in runs."""
    for control in field:
        values = {local(child): attribute(child, "val") for child in control}
        if local(control) == "checkBox":
            is_checked = values["checked"] not in OFF if "checked" in values else values.get("default") == "1"
            return f"[{'x' if is_checked else ' '}] "
        if local(control) == "ddList":
            choices = [attribute(child, "val") or "" for child in control if local(child) == "listEntry"]
            chosen = int_or(values.get("result") or values.get("default"), 0)
            return choices[chosen] if chosen < len(choices) else ""
    return ""


def _paragraph_style(paragraph: Element) -> str | None:
    return next((value for name, value in _properties(paragraph) if name == "pStyle"), None)


def _vanish(holder: Element) -> bool | None:
    """Return whether the properties of a run or a style hide its text. None if they do not say."""
    return next((value not in OFF for name, value in _run_properties(holder) if name == "vanish"), None)


def _run_properties(holder: Element) -> Iterator[tuple[str, str | None]]:
    for properties in holder:
        if local(properties) == "rPr":
            yield from ((local(child), attribute(child, "val")) for child in properties)


def _has_shown_end(paragraph: Element) -> bool:
    """Whether a paragraph without text is shown. It is not if its end is hidden, or was deleted with its text."""
    ends = [properties for one in paragraph if local(one) == "pPr" for properties in one if local(properties) == "rPr"]
    return not any(is_on(end, "vanish") or any(local(one) in _GONE for one in end) for end in ends)


def _span(holder: Element, name: str) -> int:
    """Return a number of columns in the properties of a row or a cell, at most 100; 0 if they do not say."""
    values = (attribute(one, "val") for properties in holder for one in properties if local(one) == name)
    return min(int_or(next(values, None), 0), _MAX_SPAN)


def _is_first_of_merged(cell: Element) -> bool:
    """Whether a cell shows its content: it is not merged with the one above it, or it has a text nevertheless."""
    merges = [one for properties in cell if local(properties) == "tcPr" for one in properties if local(one) == "vMerge"]
    is_continued = any(attribute(one, "val") != "restart" for one in merges)
    return not is_continued or any(local(one) in _SHOWN for one in cell.iter())


def _image_id(picture: Element) -> str:
    return attribute(picture, "embed") or attribute(picture, "id") or ""


def _style(holder: Element) -> _Style:
    """Return the paragraph properties of a style or a paragraph."""
    properties = dict(_properties(holder))
    is_title = (properties.get("name") or "").lower() == "title"
    outline = int_or(properties.get("outlineLvl"), 9)
    number = properties.get("numId")
    return _Style(
        base=properties.get("basedOn") or properties.get("pStyle"),
        heading=1 if is_title else outline + 1 if outline < 9 else None,
        numbering=None if number is None else (number, int_or(properties.get("ilvl"), 0)),
        is_hidden=_vanish(holder),
    )


def _properties(holder: Element) -> Iterator[tuple[str, str | None]]:
    """Yield properties and their values, without those of the paragraph's runs and text boxes."""
    for element in holder:
        if local(element) in ("pPr", "numPr"):
            yield from _properties(element)
        else:
            yield local(element), attribute(element, "val")


def _inside(parent: Element, name: str) -> Iterator[Element]:
    """Yield the rows of a table or the cells of a row, also those in content controls, without nested tables."""
    for element in parent:
        if local(element) == name:
            yield element
        elif local(element) in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _inside(element, name)
