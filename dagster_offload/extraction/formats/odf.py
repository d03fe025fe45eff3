"""The text of OpenDocument texts (ODT) and presentations (ODP): headings, lists, tables, notes, boxes.

The extractor glues words where several blanks or a tab stand, and does not know ODP (kreuzberg 4.10.4). Source of the
layout: OpenDocument 1.3, part 3.
"""

import zipfile
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.markdown import note_text, table_text
from dagster_offload.extraction.formats.zip_xml import archive_text, attribute, local, parsed

# Deleted words kept for review, and remarks of readers.
_NOT_TEXT = frozenset({"tracked-changes", "annotation", "sequence-decls", "note-citation"})
# Stand in a paragraph without being of its line.
_ANCHORED = frozenset({"note", "frame", "custom-shape", "text-box", "g"})
_MANY = 100  # blanks in a row; more is an attack


def open_document_text(data: bytes) -> str:
    """The text of a document that is not protected. Raises `BrokenArchive`."""
    return archive_text(data, _content)


def _content(archive: zipfile.ZipFile) -> Iterator[str]:
    return _blocks(parsed(archive, "content.xml"))


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
            case "note":
                yield note_text(_blocks(element))
            case "notes":  # of a slide
                said = [text for text in _blocks(element) if text.strip()]
                yield "\n".join(["Notes:", *said]) if said else ""
            case name if name not in _NOT_TEXT:
                yield from _blocks(element)


def _items(element: Element) -> Iterator[str]:
    for item in element:
        texts = [text for text in _blocks(item) if text.strip()]
        if texts:
            yield "\n".join([f"- {texts[0]}", *(f"  {text}".replace("\n", "\n  ") for text in texts[1:])])


def _paragraph(element: Element, mark: str) -> Iterator[str]:
    """Its line, then what is anchored in it."""
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
            parts.append(" " * min(int(attribute(child, "c") or "1"), _MANY))
        elif name in ("tab", "line-break"):
            parts.append("\t" if name == "tab" else "\n")
        elif name not in _NOT_TEXT:
            parts.append(_line(child, anchored))
        parts.append(child.tail or "")
    return "".join(parts)
