"""Read OpenDocument texts, presentations, drawings and spreadsheets: headings, lists, tables, notes, boxes, margins.

A file is an archive, or one XML file ("flat"). Of a cell, the file holds the number and usually the displayed text, which is
read. Format specification: OpenDocument 1.3, part 3.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS, OfficeArchive, is_archive
from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.office.odf_lists import LABEL, label_lists
from dagster_offload.extraction.formats.office.odf_styles import CELLS, mark_struck_cells, mark_text, remove_hidden
from dagster_offload.extraction.formats.parts.line_marks import shown_line
from dagster_offload.extraction.formats.parts.markdown import note_text, placed_table_text
from dagster_offload.extraction.formats.parts.number_format import display, plain
from dagster_offload.extraction.formats.parts.picture_marks import filled, picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import (
    BrokenArchive,
    archive_text,
    attribute,
    int_or,
    local,
    parse,
    parsed,
    parsed_if_there,
)

# Tracked deletions, comments, and numbers that are not text.
_NOT_TEXT = frozenset({"tracked-changes", "annotation", "sequence-decls", "note-citation"})
_ROW_GROUPS = frozenset({"table-header-rows", "table-rows", "table-row-group"})
# What stands for the page number, the date and similar things where no page is.
_FIELDS = frozenset({"page-number", "date", "time", "header", "footer", "date-time"})
_PLACEHOLDER = re.compile(r"\s*<[a-z/ ]+>\s*")
# Elements that are anchored in a paragraph and do not belong to its line.
_ANCHORED = frozenset({"note", "frame", "custom-shape", "text-box", "g"})
_MAX_BLANKS = 100  # blanks in a row; a larger number is an attack
# A cell or row with text is repeated at most this often. Empty cells may be repeated any number of times.
_MAX_REPEATS = 1000


_NUMBER = re.compile(r"[+-]?\d{1,300}(?:\.\d{1,300})?(?:[eE][+-]?\d{1,3})?")
_DURATION = re.compile(r"PT(\d+)H(\d\d)M(\d\d)(?:[.,]\d+)?S")


def open_document_text(data: bytes) -> str:
    """Return the text of an unprotected document. Raises `BrokenArchive`."""
    if is_archive(data):
        return archive_text(data, lambda archive: _texts(*_content_and_styles(archive)))
    try:
        document = parse(data)
        return "\n\n".join(text for text in _texts(document, document) if text.strip())
    except DAMAGE_ERRORS as error:
        raise BrokenArchive(type(error).__name__) from None


def _content_and_styles(archive: OfficeArchive) -> tuple[Element, Element]:
    content = parsed(archive, "content.xml")
    charts_and_formulas = [element for element in content.iter() if local(element) == "object"]
    seen = set()
    for embedded in charts_and_formulas:
        member = f"{(attribute(embedded, 'href') or '').removeprefix('./')}/content.xml"
        if member in seen:
            continue
        seen.add(member)
        with contextlib.suppress(*DAMAGE_ERRORS):  # which cost only the chart
            embedded.append(parsed_if_there(archive, member))
    return content, parsed_if_there(archive, "styles.xml")


def _texts(content: Element, styles: Element) -> Iterator[str]:
    """Yield the headers of pages, the body, and the footers. Margins of sheets hold names of files and page numbers."""
    body = next((element for element in content if local(element) == "body"), content)
    sheets = next((element for element in body if local(element) == "spreadsheet"), None)
    if sheets is not None:
        mark_text(content)
        yield from _sheets(content, sheets)
        return
    remove_hidden(content)
    mark_text(content)
    label_lists(content, styles)
    yield from _margins(styles, "header")
    yield from _blocks(body)
    yield from _margins(styles, "footer")
    yield from _backgrounds(styles, body)


def _margins(styles: Element, kind: str) -> Iterator[str]:
    """Yield each different header (or footer) once. Skips those without letters, such as page numbers."""
    pages = [page for masters in styles if local(masters) == "master-styles" for page in masters]
    margins = [one for page in pages for one in page if local(one) in (kind, f"{kind}-left", f"{kind}-first")]
    shown = ("\n".join(_blocks(one)) for one in margins if attribute(one, "display") != "false")
    texts = (filled(text, {}) for text in shown)  # without the marks of pictures, which are logos
    yield from dict.fromkeys(text for text in texts if any(map(str.isalpha, text)))


def _backgrounds(styles: Element, body: Element) -> Iterator[str]:
    """Yield once what all slides show: the texts of masters, and footers. Placeholders there are prompts, not text."""
    masters = [page for found in styles if local(found) == "master-styles" for page in found]
    shapes = [
        shape for page in masters for shape in page if local(shape) in _ANCHORED and not attribute(shape, "class")
    ]
    texts = [text for shape in shapes for text in _blocks([shape])]
    texts += [one.text or "" for one in body.iter() if local(one) == "footer-decl"]
    yield from dict.fromkeys(text for text in texts if any(map(str.isalpha, text)))


def _sheets(content: Element, spreadsheet: Element) -> Iterator[str]:
    """Yield each sheet that is not empty: its name, and its used rows and columns as a table."""
    for chart in [element for element in spreadsheet.iter() if local(element) == "chart"]:
        for values in [element for element in chart if local(element) == "table"]:
            chart.remove(values)  # they are cells of a sheet
    mark_struck_cells(content, spreadsheet)
    for sheet in spreadsheet:
        if local(sheet) != "table":
            continue
        rows = [row for element in _rows(sheet) for row in _sheet_rows(element)]
        anchored = [text for shapes in sheet if local(shapes) == "shapes" for text in _blocks(shapes)]
        texts = [placed_table_text(rows), *anchored]
        if any(map(str.strip, texts)):
            yield "\n\n".join([f"## {attribute(sheet, 'name') or ''}", *filter(str.strip, texts)])


def _rows(table: Element) -> Iterator[Element]:
    """Yield the table's own rows, without those of tables in its cells."""
    for element in table:
        if local(element) == "table-row":
            yield element
        elif local(element) in _ROW_GROUPS:
            yield from _rows(element)


def _sheet_rows(element: Element) -> Iterator[dict[int, str]]:
    """Yield the row's texts by column, as often as the row is repeated. Yields nothing for an empty row."""
    row, column = {}, 0
    for cell in element:
        if local(cell) not in CELLS:
            continue
        repeated = int_or(attribute(cell, "number-columns-repeated"), 1)
        text = "\n".join(_blocks(cell))
        if not text.strip():
            text = _value(cell)
        if text.strip():
            row.update(dict.fromkeys(range(column, column + min(repeated, _MAX_REPEATS)), text))
        column += repeated
    if row:
        for _ in range(min(int_or(attribute(element, "number-rows-repeated"), 1), _MAX_REPEATS)):
            yield row


def _cells(row: Element) -> Iterator[tuple[int, str]]:
    """Yield the column and the text of each cell, and of one that another covers if it has a text."""
    column = 0
    for cell in row:
        text = "\n".join(_blocks(cell))
        if local(cell) == "table-cell" or text:
            yield column, text
        column += int_or(attribute(cell, "number-columns-repeated"), 1)


def _value(cell: Element) -> str:
    """Return a cell's value as a sheet shows it. Some programs write no text beside the value."""
    value = attribute(cell, "value") or ""
    kind = attribute(cell, "value-type")
    if kind in ("float", "percentage", "currency") and not _NUMBER.fullmatch(value):
        return value
    match kind:
        case "float":
            return plain(float(value))
        case "percentage":
            return display(float(value), "0%")
        case "currency":
            return f"{plain(float(value))} {attribute(cell, 'currency') or ''}"
        case "date":
            return (attribute(cell, "date-value") or "").removesuffix("T00:00:00").replace("T", " ")
        case "time" if found := _DURATION.fullmatch(attribute(cell, "time-value") or ""):
            return f"{int(found[1])}:{found[2]}" + (f":{found[3]}" if found[3] != "00" else "")
        case "boolean":
            return (attribute(cell, "boolean-value") or "").upper()
        case _:
            return attribute(cell, "string-value") or ""


def _blocks(parent: Iterable[Element]) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "p":
                yield from _paragraph(element, "")
            case "h":
                level = int_or(attribute(element, "outline-level"), 1)
                label = element.get(LABEL)
                yield from _paragraph(element, "#" * min(max(1, level), 6) + " " + (f"{label} " if label else ""))
            case "list":
                yield "\n".join(_items(element))
            case "table":
                yield placed_table_text([dict(_cells(row)) for row in _rows(element)])
            case "frame":
                text = [*_embedded(element)]
                # Either the object or, if it has no text, the picture of it. An object is walked once: they nest.
                yield from text if any(text) else _blocks(each for each in element if local(each) != "object")
            case "image" if name := attribute(element, "href"):
                yield picture_mark(name.removeprefix("./"))
            case "note":
                yield note_text(_blocks(element))
            case "notes":  # of a slide
                notes = [text for text in _blocks(element) if text.strip()]
                yield "\n".join(["Notes:", *notes]) if notes else ""
            case name if name not in _NOT_TEXT:
                yield from _blocks(element)


def _embedded(frame: Element) -> Iterator[str]:
    """Yield the title and the values of a chart, or a formula."""
    for element in frame:
        if local(element) == "object":
            yield from _blocks(element)
            yield from (_formula_text(formula) for formula in element.iter() if local(formula) == "math")


def _formula_text(formula: Element) -> str:
    """Return a formula as one of an HTML page is written: both have the same elements."""
    for element in formula.iter():
        element.tag = local(element)
    return html_text(ElementTree.tostring(formula, "unicode"))


def _items(element: Element) -> Iterator[str]:
    for item in element:
        texts = [text for text in _blocks(item) if text.strip()]
        if texts and all(local(one) == "list" for one in item):
            yield from ("  " + text.replace("\n", "\n  ") for text in texts)
        elif texts:
            yield "\n".join(
                [_marked(texts[0], item.get(LABEL)), *(f"  {text}".replace("\n", "\n  ") for text in texts[1:])]
            )


def _marked(text: str, label: str | None) -> str:
    """Return the first line of an item with its number or bullet, which a heading has after its mark."""
    mark, blank, heading = text.partition(" ")
    if label and blank and not mark.strip("#"):
        return f"{mark} {label} {heading}"
    return f"{label or '-'} {text}"


def _paragraph(element: Element, mark: str) -> Iterator[str]:
    """Yield the paragraph's line, then the objects anchored in it."""
    anchored = Element("anchored")
    line = shown_line(_line(element, anchored))
    if line.strip():
        yield mark + line
    yield from _blocks(anchored)


def _line(element: Element, anchored: Element) -> str:
    parts = [element.text or ""]
    for child in element:
        name = local(child)
        if name in _ANCHORED:
            anchored.append(child)
        elif name == "s":
            parts.append(" " * min(int_or(attribute(child, "c"), 1), _MAX_BLANKS))
        elif name in ("tab", "line-break"):
            parts.append("\t" if name == "tab" else "\n")
        elif name not in _NOT_TEXT:
            line = _line(child, anchored)
            parts.append("" if _PLACEHOLDER.fullmatch(line) and name in _FIELDS else line)
        parts.append(child.tail or "")
    return "".join(parts)
