"""Read Hangul documents (HWP 5) in reading order: tables in place, notes after their paragraph, numbers of lists.

Format specification: Hancom's '한글 문서 파일 형식 5.0' (records, controls).
"""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import olefile

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.hangul.distribution import unscramble
from dagster_offload.extraction.formats.hangul.numbers import STYLES, Heading, Level, Numbers
from dagster_offload.extraction.formats.parts.markdown import note_text, placed_table_text
from dagster_offload.extraction.formats.parts.picture_marks import picture_mark

_BINARY_DATA, _NUMBERING, _PARAGRAPH_SHAPE, _PICTURE = 18, 23, 25, 85
_PARAGRAPH, _TEXT, _CONTROL, _LIST, _TABLE, _EQUATION, _TEXT_ART, _FORM = 66, 67, 71, 72, 77, 88, 90, 91
_CONTINUES = 0xFFF  # the size follows in the next four bytes
_TABLE_CONTROL = b" lbt"  # control ids are four letters, written backwards
_NOTES = (b"  nf", b"  ne")  # footnote, endnote
_HIDDEN_COMMENT = b"tmct"
_SECTION, _GLOSS, _OVERPRINTED = b"dces", b"tudt", b"spct"
_OUTLINE, _NUMBER = 1, 2  # kinds of paragraph heads
_LEVELS = 7
_IS_COMPRESSED, _FOR_DISTRIBUTION = 1, 4

_TAB, _LINE_BREAK, _HYPHEN = 9, 10, 24
_SPACES = (30, 31)
_ONE_UNIT = frozenset({0, _LINE_BREAK, 13, *range(24, 32)})  # the other controls take eight units
_WITH_RECORD = frozenset({1, 2, 3, *range(11, 13), *range(14, 19), *range(21, 24)})  # these have a record of their own
_EMBEDDED, _PICTURE_ITEM = 1, 71  # a kind of binary data, and where a picture has the number of its data
_CHECKED_FIELDS = (b"tbc+", b"tbr+")  # check boxes and radio buttons
# A property of a form field, such as `Caption:wstring:3:동의함`.
_PROPERTY = re.compile(r"\b(Caption|Text|Value):(?:wstring:(\d+)|int):")


class NotHangul(Exception):  # noqa: N818 - describes the input, not a fault of ours
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
            info = document.openstream("DocInfo").read() if document.exists("DocInfo") else b""
        if not sections:
            raise NotHangul("no section")
        if is_scrambled:
            sections = [unscramble(section) for section in sections]
        is_compressed = bool(flags & _IS_COMPRESSED)
        lists = _Lists(_tree(_unpacked(info) if is_compressed else info)) if info else _Lists([])
        return "\n\n".join(section_text(section, is_compressed=is_compressed, lists=lists) for section in sections)
    except DAMAGE_ERRORS as error:
        raise NotHangul(type(error).__name__) from None


def hwp_pictures(data: bytes, names: Iterable[str]) -> dict[str, bytes]:
    """Return the pictures with these names, without those that are missing or damaged."""
    found = {}
    with contextlib.suppress(*DAMAGE_ERRORS), olefile.OleFileIO(io.BytesIO(data)) as document:
        for name in names:
            with contextlib.suppress(*DAMAGE_ERRORS):
                found[name] = _picture(document.openstream(["BinData", name]).read())
    return found


def _picture(content: bytes) -> bytes:
    try:
        return _unpacked(content)
    except zlib.error:  # not compressed
        return content


def section_text(stream: bytes, *, is_compressed: bool, lists: "_Lists | None" = None) -> str:
    """Return the text of one section's stream of records. `lists` numbers its paragraphs."""
    records = _tree(_unpacked(stream) if is_compressed else stream)
    return "\n\n".join(_Section(lists or _Lists([])).paragraphs(records))


class _Lists:
    """The numberings and paragraph shapes of a document, from its stream `DocInfo`."""

    def __init__(self, info: list[_Record]) -> None:
        records = list(_flat(info))
        numberings = [record for record in records if record.tag == _NUMBERING]
        self.numbers = Numbers({number: _levels(record.data) for number, record in enumerate(numberings, 1)})
        self.pictures = [_picture_name(record.data) for record in records if record.tag == _BINARY_DATA]
        self.headings = [_heading(record.data) for record in records if record.tag == _PARAGRAPH_SHAPE]

    def label(self, paragraph: _Record) -> str:
        if len(paragraph.data) < 10:
            return ""
        (shape,) = struct.unpack_from("<H", paragraph.data, 8)
        return self.numbers.label(self.headings[shape]) if shape < len(self.headings) else ""


def _flat(records: list[_Record]) -> Iterator[_Record]:
    for record in records:
        yield record
        yield from _flat(record.children)


def _picture_name(data: bytes) -> str:
    """Return the name of the stream with a picture, "" for a linked one."""
    attributes, number = struct.unpack_from("<HH", data)
    return f"BIN{number:04X}.{_string(data, 4)[0]}" if attributes & 0xF == _EMBEDDED else ""


def _heading(shape: bytes) -> Heading | None:
    attributes, *_, numbering = struct.unpack_from("<I 6i H H", shape)
    kind, level = attributes >> 23 & 3, attributes >> 25 & 7
    if kind not in (_OUTLINE, _NUMBER):
        return None
    return Heading(None if kind == _OUTLINE else numbering, level)


def _levels(numbering: bytes) -> list[Level]:
    levels, offset = [], 0
    for _ in range(_LEVELS):
        attributes = struct.unpack_from("<I", numbering, offset)[0]
        text, offset = _string(numbering, offset + 12)
        style = attributes >> 5 & 0xF
        levels.append(Level(text, STYLES[style] if style < len(STYLES) else "decimal"))
    starts = struct.unpack_from(f"<{_LEVELS}I", numbering, offset + 2) if len(numbering) >= offset + 30 else None
    return (
        levels
        if starts is None
        else [Level(level.text, level.style, start) for level, start in zip(levels, starts, strict=True)]
    )


def _string(data: bytes, offset: int) -> tuple[str, int]:
    """Return the string at an offset, which begins with its length in characters, and the offset after it."""
    end = offset + 2 + 2 * struct.unpack_from("<H", data, offset)[0]
    return data[offset + 2 : end].decode("utf-16-le", "replace"), end


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


class _Section:
    """Reads the records of a section. `lists` numbers its paragraphs."""

    def __init__(self, lists: _Lists) -> None:
        self.lists = lists

    def paragraphs(self, records: list[_Record]) -> Iterator[str]:
        """Yield each paragraph, table and note under these records."""
        for record in records:
            if record.tag == _PARAGRAPH:
                yield from filter(str.strip, self._paragraph(record))
            elif record.tag == _CONTROL:
                yield from self._control(record)
            elif record.tag == _EQUATION:
                yield _string(record.data, 4)[0]
            elif record.tag == _TEXT_ART:  # eight coordinates, then the text
                yield _string(record.data, 32)[0]
            elif record.tag == _PICTURE and len(record.data) >= _PICTURE_ITEM + 2:
                number = struct.unpack_from("<H", record.data, _PICTURE_ITEM)[0] - 1
                if 0 <= number < len(self.lists.pictures) and (name := self.lists.pictures[number]):
                    yield picture_mark(name)
            elif record.tag == _FORM:
                yield _form_value(record.data)
            else:
                yield from self.paragraphs(record.children)

    def _paragraph(self, record: _Record) -> Iterator[str]:
        controls = [child for child in record.children if child.tag == _CONTROL]
        for section in (control for control in controls if control.data[:4] == _SECTION and len(control.data) >= 20):
            (self.lists.numbers.outline,) = struct.unpack_from("<H", section.data, 18)
        for child in record.children:
            if child.tag == _TEXT:
                text = _characters(child.data, [control.data for control in controls])
                yield self.lists.label(record) + text if text.strip() else ""
            elif child.tag == _CONTROL:
                yield from self._control(child)

    def _control(self, record: _Record) -> Iterator[str]:
        kind = record.data[:4]
        if kind == _TABLE_CONTROL:
            yield from self._table(record)
        elif kind in _NOTES:
            yield note_text(self.paragraphs(record.children))
        elif kind == _HIDDEN_COMMENT:
            pass  # as the comments of other formats: it is not printed
        else:  # text boxes, headers, footers, and other controls with paragraphs
            yield from self.paragraphs(record.children)

    def _table(self, record: _Record) -> Iterator[str]:
        """Yield a table's caption, which comes before the table's own record, then its rows."""
        index = next((index for index, child in enumerate(record.children) if child.tag == _TABLE), 0)
        yield from self.paragraphs(record.children[:index])
        rows: dict[int, dict[int, list[_Record]]] = {}
        cell: list[_Record] = []
        for child in record.children[index + 1 :]:
            if child.tag == _LIST:  # a cell begins: 8 bytes of list, 2 of column, 2 of row
                column, row = struct.unpack_from("<HH", child.data, 8)
                cell = rows.setdefault(row, {}).setdefault(column, [])
            else:
                cell.append(child)
        cells = (rows[row].items() for row in sorted(rows))
        yield placed_table_text([{column: "\n".join(self.paragraphs(cell)) for column, cell in row} for row in cells])


def _characters(data: bytes, controls: list[bytes]) -> str:
    """Return a paragraph's characters without its controls, which take one or eight units each (chapter 4.3.2).

    `controls` are the records of the controls that have one, in order.
    """
    out = []
    offset = 0
    units = memoryview(data[: len(data) // 2 * 2]).cast("H")
    start = 0
    own = iter(controls)
    while offset < len(units):
        unit = units[offset]
        if unit >= 32:
            offset += 1
            continue
        out.append(data[2 * start : 2 * offset].decode("utf-16-le", "replace"))
        out.append({_TAB: "\t", _LINE_BREAK: "\n", _HYPHEN: "-"}.get(unit, " " if unit in _SPACES else ""))
        if unit in _WITH_RECORD:
            out.append(_in_line(next(own, b"")))
        offset += 1 if unit in _ONE_UNIT else 8
        start = offset
    out.append(data[2 * start :].decode("utf-16-le", "replace"))
    return "".join(out)


def _in_line(control: bytes) -> str:
    """Return the text of a control that stands in its line: a word with a gloss, or letters printed over each other."""
    if control[:4] == _GLOSS:
        word, end = _string(control, 4)
        gloss, _ = _string(control, end)
        return f"{word}({gloss})" if gloss else word
    return _string(control, 4)[0] if control[:4] == _OVERPRINTED else ""


def _form_value(data: bytes) -> str:
    """Return what a form field shows: its caption with a mark, or its text."""
    properties = data[: len(data) // 2 * 2].decode("utf-16-le", "replace")
    found: dict[str, str] = {}
    for match in _PROPERTY.finditer(properties):
        found[match[1]] = properties[match.end() :][: int(match[2])] if match[2] else properties[match.end() :][:1]
    if data[:4] in _CHECKED_FIELDS:
        return f"[{'x' if found.get('Value') == '1' else ' '}] {found.get('Caption', '')}"
    return found.get("Text") or found.get("Caption", "")


def _number(name: str) -> int:
    found = re.search(r"\d+", name)
    return int(found[0]) if found else 0
