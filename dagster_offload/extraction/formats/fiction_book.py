"""Read FictionBook files (FB2): title, sections, verses, tables and notes. Format specification: FictionBook 2.1."""

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive, local, parse

_LINES = frozenset({"p", "v", "subtitle", "text-author", "date"})


def fiction_book_text(data: bytes) -> str:
    """Return the text of a book. Raises `BrokenArchive`."""
    try:
        root = parse(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BrokenArchive(type(error).__name__) from None
    if local(root) != "FictionBook":
        raise BrokenArchive("not a book")
    bodies = (child for child in root if local(child) == "body")
    return "\n\n".join(filter(str.strip, (text for body in bodies for text in _blocks(body, 1))))


def _blocks(parent: Element, level: int) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "title":
                yield "#" * min(level, 6) + " " + " ".join(_line(line) for line in element if _line(line))
            case "table":
                yield table_text([[_line(cell) for cell in row] for row in element])
            case "section":
                yield from _blocks(element, level + 1)
            case name if name in _LINES:
                yield _line(element)
            case _:
                yield from _blocks(element, level)


def _line(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())
