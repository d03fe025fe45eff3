"""Read Hangul documents (HWP 5 and HWPX) in reading order: tables in place, notes after their paragraph.

kreuzberg 4.10.4 reads neither: it returns an empty text for one and refuses the other. Format specifications: Hancom's
'한글 문서 파일 형식 5.0' (records, controls) and the OWPML standard KS X 6101 (HWPX).
"""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import olefile

from dagster_offload.extraction.file_types import DAMAGE_ERRORS
from dagster_offload.extraction.formats.hwp_distribution import unscramble
from dagster_offload.extraction.formats.markdown import note_text, table_text
from dagster_offload.extraction.formats.zip_xml import archive_text, local, parsed

_PARAGRAPH, _TEXT, _CONTROL, _LIST, _TABLE, _EQUATION = 66, 67, 71, 72, 77, 88
_CONTINUES = 0xFFF  # the size follows in the next four bytes
_TABLE_CONTROL = b" lbt"  # control ids are four letters, written backwards
_NOTES = (b"  nf", b"  ne")  # footnote, endnote
_IS_COMPRESSED, _FOR_DISTRIBUTION = 1, 4

_TAB, _LINE_BREAK, _HYPHEN = 9, 10, 24
_SPACES = (30, 31)
_ONE_UNIT = frozenset({0, _LINE_BREAK, 13, *range(24, 32)})  # the other controls take eight units


class NotHangul(Exception):  # noqa: N818 - says what the file is not
    """The file is not an HWP document, or it is broken."""


@dataclass
class _Record:
    tag: int
    data: bytes
    children: "list[_Record]" = field(default_factory=list)


def hwp_text(data: bytes) -> str:
    """Return the text of an unprotected HWP 5 document. Raises `NotHangul`."""
    try:
        with olefile.OleFileIO(io.BytesIO(data)) as document:
            flags = struct.unpack_from("<I", document.openstream("FileHeader").read(), 36)[0]
            is_scrambled = bool(flags & _FOR_DISTRIBUTION)
            folder = "ViewText" if is_scrambled else "BodyText"
            names = sorted((_number(path[1]), path) for path in document.listdir() if path[0] == folder)
            sections = [document.openstream(path).read() for _, path in names]
        if not sections:
            raise NotHangul("no section")
        if is_scrambled:
            sections = [unscramble(section) for section in sections]
        return "\n\n".join(section_text(section, is_compressed=bool(flags & _IS_COMPRESSED)) for section in sections)
    except DAMAGE_ERRORS as error:
        raise NotHangul(type(error).__name__) from None


def section_text(stream: bytes, *, is_compressed: bool) -> str:
    """Return the text of one section's stream of records."""
    records = _tree(_unpacked(stream) if is_compressed else stream)
    return "\n\n".join(_paragraphs(records))


def _unpacked(stream: bytes) -> bytes:
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    content = unpacking.decompress(stream)
    if not unpacking.eof:
        raise zlib.error("cut off")
    return content  # zeros that pad scrambled sections may follow


def _tree(stream: bytes) -> list[_Record]:
    """Parse a section into a tree. A record's children are the deeper records that follow it."""
    root = _Record(-1, b"")
    open_records = [root]
    offset = 0
    while offset + 4 <= len(stream):
        (header,) = struct.unpack_from("<I", stream, offset)
        tag, level, size = header & 0x3FF, header >> 10 & 0x3FF, header >> 20
        offset += 4
        if size == _CONTINUES:
            (size,) = struct.unpack_from("<I", stream, offset)
            offset += 4
        record = _Record(tag, stream[offset : offset + size])
        offset += size
        del open_records[level + 1 :]
        open_records[-1].children.append(record)
        open_records.append(record)
    return root.children


def _paragraphs(records: list[_Record]) -> Iterator[str]:
    """Yield each paragraph, table and note under these records."""
    for record in records:
        if record.tag == _PARAGRAPH:
            yield from filter(str.strip, _paragraph(record))
        elif record.tag == _CONTROL:
            yield from _control(record)
        elif record.tag == _EQUATION:
            (length,) = struct.unpack_from("<H", record.data, 4)
            yield record.data[6 : 6 + 2 * length].decode("utf-16-le", "replace")
        else:
            yield from _paragraphs(record.children)


def _paragraph(record: _Record) -> Iterator[str]:
    for child in record.children:
        if child.tag == _TEXT:
            yield _characters(child.data)
        elif child.tag == _CONTROL:
            yield from _control(child)


def _control(record: _Record) -> Iterator[str]:
    kind = record.data[:4]
    if kind == _TABLE_CONTROL:
        yield from _table(record)
    elif kind in _NOTES:
        yield note_text(_paragraphs(record.children))
    else:  # text boxes, headers, footers, and other controls with paragraphs
        yield from _paragraphs(record.children)


def _table(record: _Record) -> Iterator[str]:
    """Yield a table's caption, which comes before the table's own record, then its rows."""
    index = next((index for index, child in enumerate(record.children) if child.tag == _TABLE), 0)
    yield from _paragraphs(record.children[:index])
    rows: dict[int, list[list[_Record]]] = {}
    row: list[list[_Record]] = []
    for child in record.children[index + 1 :]:
        if child.tag == _LIST:  # a cell begins: 8 bytes of list, 2 of column, 2 of row
            row = rows.setdefault(struct.unpack_from("<H", child.data, 10)[0], [])
            row.append([])
        elif rows:
            row[-1].append(child)
    yield table_text([["\n".join(_paragraphs(cell)) for cell in row] for _, row in sorted(rows.items())])


def _characters(data: bytes) -> str:
    """Return a paragraph's characters without its controls, which take one or eight units each (chapter 4.3.2)."""
    out = []
    offset = 0
    units = memoryview(data[: len(data) // 2 * 2]).cast("H")
    start = 0
    while offset < len(units):
        unit = units[offset]
        if unit >= 32:
            offset += 1
            continue
        out.append(data[2 * start : 2 * offset].decode("utf-16-le", "replace"))
        out.append({_TAB: "\t", _LINE_BREAK: "\n", _HYPHEN: "-"}.get(unit, " " if unit in _SPACES else ""))
        offset += 1 if unit in _ONE_UNIT else 8
        start = offset
    out.append(data[2 * start :].decode("utf-16-le", "replace"))
    return "".join(out)


def hwpx_text(data: bytes) -> str:
    """Return the text of an unprotected HWPX document. Raises `BrokenArchive`."""
    return archive_text(data, _hwpx_sections)


def _hwpx_sections(archive: zipfile.ZipFile) -> Iterator[str]:
    names = [name for name in archive.namelist() if re.fullmatch(r"Contents/section\d+\.xml", name)]
    if not names:
        raise LookupError("no section")
    for name in sorted(names, key=_number):
        yield from _elements(parsed(archive, name))


def _elements(parent: Element) -> Iterator[str]:
    for element in parent:
        match local(element):
            case "p":
                yield from _runs(element)
            case "tbl":
                rows = [row for row in element if local(row) == "tr"]
                yield from _elements_of(element, {"caption"})
                yield table_text([["\n".join(_elements(cell)) for cell in row] for row in rows])
            case "footNote" | "endNote":
                yield note_text(_elements(element))
            case "script":
                yield element.text or ""
            case _:
                yield from _elements(element)


def _elements_of(parent: Element, names: set[str]) -> Iterator[str]:
    for element in parent:
        if local(element) in names:
            yield from _elements(element)


def _runs(paragraph: Element) -> Iterator[str]:
    """Yield a paragraph's text, then the objects anchored in it."""
    text, anchored = [], []
    for run in paragraph:
        for element in run:
            if local(element) == "t":
                text.append(_mixed(element))
            else:
                anchored.append(element)
    yield "".join(text)
    for element in anchored:
        holder = Element("anchored")
        holder.append(element)
        yield from _elements(holder)


def _mixed(element: Element) -> str:
    """Return the text of an element that mixes text with tabs, line breaks and marks."""
    inner = {"tab": "\t", "lineBreak": "\n", "hyphen": "-", "nbSpace": " ", "fwSpace": " "}
    parts = [element.text or ""]
    for child in element:
        parts += [inner.get(local(child), _mixed(child)), child.tail or ""]
    return "".join(parts)


def _number(name: str) -> int:
    found = re.search(r"\d+", name)
    return int(found[0]) if found else 0
