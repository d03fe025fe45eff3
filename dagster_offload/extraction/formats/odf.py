"""Read OpenDocument texts, presentations and spreadsheets (ODT, ODP, ODS): headings, lists, tables, notes, boxes.

Of a cell, the file holds the number and the displayed text. The text is read. Format specification: OpenDocument 1.3, part 3.
"""

import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.markdown import note_text, table_text
from dagster_offload.extraction.formats.parts.picture_marks import picture_mark
from dagster_offload.extraction.formats.parts.zip_xml import archive_text, attribute, local, parsed

# Tracked deletions, comments, and numbers that are not text.
_NOT_TEXT = frozenset({"tracked-changes", "annotation", "sequence-decls", "note-citation"})
# Elements that are anchored in a paragraph and do not belong to its line.
_ANCHORED = frozenset({"note", "frame", "custom-shape", "text-box", "g"})
_MAX_BLANKS = 100  # blanks in a row; a larger number is an attack
# A cell or row with text is repeated at most this often. Empty cells may be repeated any number of times.
_MAX_REPEATS = 1000


def open_document_text(data: bytes) -> str:
    """Return the text of an unprotected document. Raises `BrokenArchive`."""
    return archive_text(data, _content)


def _content(archive: zipfile.ZipFile) -> Iterator[str]:
    content = parsed(archive, "content.xml")
    sheets = next((element for element in content.iter() if local(element) == "spreadsheet"), None)
    return _blocks(content) if sheets is None else _sheets(sheets)


def _sheets(spreadsheet: Element) -> Iterator[str]:
    """Yield each sheet that is not empty: its name, and its used rows and columns as a table."""
    for sheet in spreadsheet:
        if local(sheet) != "table":
            continue
        rows = [row for element in sheet.iter() if local(element) == "table-row" for row in _sheet_rows(element)]
        columns = sorted({column for row in rows for column in row})
        anchored = [text for shapes in sheet if local(shapes) == "shapes" for text in _blocks(shapes)]
        texts = [table_text([[row.get(column, "") for column in columns] for row in rows]), *anchored]
        if any(map(str.strip, texts)):
            yield "\n\n".join([f"## {attribute(sheet, 'name') or ''}", *filter(str.strip, texts)])


def _sheet_rows(element: Element) -> Iterator[dict[int, str]]:
    """Yield the row's texts by column, as often as the row is repeated. Yields nothing for an empty row."""
    row, column = {}, 0
    for cell in element:
        if local(cell) not in ("table-cell", "covered-table-cell"):
            continue
        repeated = int(attribute(cell, "number-columns-repeated") or "1")
        text = "\n".join(_blocks(cell))
        if text.strip():
            row.update(dict.fromkeys(range(column, column + min(repeated, _MAX_REPEATS)), text))
        column += repeated
    if row:
        for _ in range(min(int(attribute(element, "number-rows-repeated") or "1"), _MAX_REPEATS)):
            yield row


def _blocks(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "p":
                yield from _paragraph(element, "")
            case "h":
                level = attribute(element, "outline-level") or "1"
                yield from _paragraph(element, "#" * min(int(level), 6) + " ")
            case "list":
                yield "\n".join(_items(element))
            case "table":
                rows = [row for row in element.iter() if local(row) == "table-row"]
                yield table_text([["\n".join(_blocks(cell)) for cell in row] for row in rows])
            case "image" if name := attribute(element, "href"):
                yield picture_mark(name.removeprefix("./"))
            case "note":
                yield note_text(_blocks(element))
            case "notes":  # of a slide
                notes = [text for text in _blocks(element) if text.strip()]
                yield "\n".join(["Notes:", *notes]) if notes else ""
            case name if name not in _NOT_TEXT:
                yield from _blocks(element)


def _items(element: Element) -> Iterator[str]:
    for item in element:
        texts = [text for text in _blocks(item) if text.strip()]
        if texts:
            yield "\n".join([f"- {texts[0]}", *(f"  {text}".replace("\n", "\n  ") for text in texts[1:])])


def _paragraph(element: Element, mark: str) -> Iterator[str]:
    """Yield the paragraph's line, then the objects anchored in it."""
    anchored = Element("anchored")
    line = _line(element, anchored)
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
            parts.append(" " * min(int(attribute(child, "c") or "1"), _MAX_BLANKS))
        elif name in ("tab", "line-break"):
            parts.append("\t" if name == "tab" else "\n")
        elif name not in _NOT_TEXT:
            parts.append(_line(child, anchored))
        parts.append(child.tail or "")
    return "".join(parts)
