"""Read the text that a Windows metafile (WMF, EMF) draws, such as the labels of a chart or the cells of a workbook.

Office files keep such a picture for each embedded object. Format specifications: [MS-WMF] and [MS-EMF].
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS
from dagster_offload.extraction.formats.parts.charsets import SYMBOL, codec_of_charset

_PLACEABLE = b"\xd7\xcd\xc6\x9a"
_EMF_SIGNATURE = b" EMF"
# EMF records, and the options of their texts.
_EXT_TEXT_A, _EXT_TEXT_W, _SMALL_TEXT, _END = 83, 84, 108, 14
_GLYPHS, _NO_RECTANGLE, _SMALL_CHARACTERS = 0x10, 0x100, 0x200
# WMF records.
_TEXT, _EXT_TEXT, _NEW_FONT, _SELECT, _DELETE = 0x0521, 0x0A32, 0x02FB, 0x012D, 0x01F0
_NEW_OBJECTS = frozenset({0x00F7, 0x01F9, 0x02FA, _NEW_FONT, 0x02FC, 0x06FF, 0x0142})
_HAS_RECTANGLE = 0x6
_MAX_RECORDS = 200_000
# A gap that is wider than this share of a letter separates two words.
_WORD_GAP = 0.25


@dataclass(frozen=True)
class _Piece:
    """A text and its position. `width` is 0 if unknown."""

    text: str
    x: int
    y: int
    width: int


def is_metafile(data: bytes) -> bool:
    """Whether this is a metafile with a header of its own."""
    return data.startswith(_PLACEABLE) or data[40:44] == _EMF_SIGNATURE


def metafile_text(data: bytes) -> str:
    """Return the texts of a metafile line by line, in the order in which it draws them; "" if it has none."""
    pieces: list[_Piece] = []
    try:
        for piece in _emf(data) if data[40:44] == _EMF_SIGNATURE else _wmf(data):
            if not pieces or piece != pieces[-1]:  # shadows and outlines draw a text twice
                pieces.append(piece)
    except DAMAGE_ERRORS:  # keep what was read: a damaged picture does not affect the document
        pass
    return "\n".join(filter(str.strip, _lines(pieces)))


def _lines(pieces: Sequence[_Piece]) -> Iterator[str]:
    line, before = "", None
    for piece in pieces:
        if before is not None and piece.y == before.y:
            line += ("" if _is_one_word(before, piece) else " ") + piece.text
        else:
            yield line
            line = piece.text
        before = piece
    yield line


def _is_one_word(before: _Piece, after: _Piece) -> bool:
    gap = after.x - before.x - before.width
    return bool(before.width) and abs(gap) <= _WORD_GAP * before.width / len(before.text)


def _emf(data: bytes) -> Iterator[_Piece]:
    offset = 0
    for _ in range(_MAX_RECORDS):
        if offset + 8 > len(data):
            return
        kind, size = struct.unpack_from("<II", data, offset)
        if kind == _END or size < 8:
            return
        record = data[offset : offset + size]
        offset += size
        if kind in (_EXT_TEXT_A, _EXT_TEXT_W):
            yield from _emf_text(record, is_wide=kind == _EXT_TEXT_W)
        elif kind == _SMALL_TEXT:
            x, y, count, options = struct.unpack_from("<iiII", record, 8)
            start = 36 if options & _NO_RECTANGLE else 52
            is_wide = not options & _SMALL_CHARACTERS
            text = record[start : start + count * (2 if is_wide else 1)]
            if not options & _GLYPHS:
                yield _Piece(text.decode("utf-16-le" if is_wide else "cp1252", "replace"), x, y, 0)


def _emf_text(record: bytes, *, is_wide: bool) -> Iterator[_Piece]:
    x, y, count, start, options = struct.unpack_from("<iiIII", record, 36)
    if options & _GLYPHS or not count:
        return
    text = record[start : start + count * (2 if is_wide else 1)]
    widths = struct.unpack_from("<I", record, 72)[0]
    has_widths = widths and widths + 4 * count <= len(record)
    width = sum(struct.unpack_from(f"<{count}I", record, widths)) if has_widths else 0
    yield _Piece(text.decode("utf-16-le" if is_wide else "cp1252", "replace"), x, y, width)


def _wmf(data: bytes) -> Iterator[_Piece]:
    offset = 22 if data.startswith(_PLACEABLE) else 0
    offset += 2 * struct.unpack_from("<H", data, offset + 2)[0]
    objects: dict[int, int | None] = {}  # the charset of each font, None for other objects
    charset = 0
    for _ in range(_MAX_RECORDS):
        if offset + 6 > len(data):
            return
        words, kind = struct.unpack_from("<IH", data, offset)
        if words < 3:
            return
        record = data[offset + 6 : offset + 2 * words]
        offset += 2 * words
        if kind in _NEW_OBJECTS:
            free = next(index for index in range(len(objects) + 1) if index not in objects)
            objects[free] = record[13] if kind == _NEW_FONT else None
        elif kind == _DELETE:
            objects.pop(struct.unpack_from("<H", record)[0], None)
        elif kind == _SELECT:
            selected = objects.get(struct.unpack_from("<H", record)[0])
            charset = charset if selected is None else selected
        elif kind in (_TEXT, _EXT_TEXT) and charset != SYMBOL:
            yield from _wmf_text(record, kind, codec_of_charset(charset) or "cp1252")


def _wmf_text(record: bytes, kind: int, encoding: str) -> Iterator[_Piece]:
    if kind == _TEXT:
        (count,) = struct.unpack_from("<H", record)
        y, x = struct.unpack_from("<hh", record, 2 + count + count % 2)
        text, width = record[2 : 2 + count], 0
    else:
        y, x, count, options = struct.unpack_from("<hhHH", record)
        start = 16 if options & _HAS_RECTANGLE else 8
        text, widths = record[start : start + count], start + count + count % 2
        has_widths = widths + 2 * count <= len(record)
        width = sum(struct.unpack_from(f"<{count}h", record, widths)) if has_widths else 0
    if text:
        yield _Piece(text.decode(encoding, "replace"), x, y, width)
