"""Find the records of a Word document (97 to 2003): its table stream, its pieces of text, and properties in a list.

Format specification: [MS-DOC].
"""

import io
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from operator import itemgetter
from typing import TypeVar

import olefile

T = TypeVar("T")

NO_TEXT = 0x1F  # an optional hyphen, which office-oxide and `clean` leave out

_WORD_97 = b"\xec\xa5"
_FLAGS, _SECOND_TABLE = 0x0A, 0x0200
_PIECES = 0x01A2  # where the header has the place and the length of the pieces
_CHARACTER_PAGES = 0x00FA  # where the header has the place and the length of the pages of character properties
_PAGE = 512
_PROPERTIES_PIECE, _TEXT_PIECES = 1, 2
_IS_BYTES = 0x40000000  # of a piece: one byte a character, at half the offset
_OPERAND_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2, 7: 3}
_LARGE_OPERAND, _LARGE = 6, 0xD608  # a length of one byte comes first; of a table's definition, of two bytes


def main_and_table(data: bytes) -> tuple[bytes, bytes] | None:
    """Return a file's main stream and its stream of tables, None for older versions of Word. Raises errors of damage."""
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        document = bytes(file.openstream("WordDocument").read())
        table = table_of(file, document)
    return None if table is None else (document, table)


def table_of(file: olefile.OleFileIO, document: bytes) -> bytes | None:
    """Return the stream of tables that belongs to the main stream `document`, None for older versions of Word."""
    if not document.startswith(_WORD_97):
        return None
    (flags,) = struct.unpack_from("<H", document, _FLAGS)
    return bytes(file.openstream("1Table" if flags & _SECOND_TABLE else "0Table").read())


def pieces(document: bytes, table: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield the offset of each piece of text, its length in characters, and whether they are bytes."""
    start, size = struct.unpack_from("<II", document, _PIECES)
    place, end = start, start + size
    while place < end and table[place] == _PROPERTIES_PIECE:
        place += 3 + struct.unpack_from("<H", table, place + 1)[0]
    if place >= end or table[place] != _TEXT_PIECES:
        return
    (size,) = struct.unpack_from("<I", table, place + 1)
    count = (size - 4) // 12
    borders = struct.unpack_from(f"<{count + 1}I", table, place + 5)
    for number in range(count):
        (offset,) = struct.unpack_from("<I", table, place + 5 + 4 * (count + 1) + 8 * number + 2)
        is_bytes = bool(offset & _IS_BYTES)
        offset &= ~_IS_BYTES
        yield offset // 2 if is_bytes else offset, max(0, borders[number + 1] - borders[number]), is_bytes


def character_runs(document: bytes, table: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield where each run of characters begins and ends in the stream `document`, and its properties."""
    start, size = struct.unpack_from("<II", document, _CHARACTER_PAGES)
    count = max(0, (size - 4) // 8)
    for number in struct.unpack_from(f"<{count}I", table, start + 4 * (count + 1)):
        page = _PAGE * (number & 0x3FFFFF)
        runs = document[page + _PAGE - 1]
        borders = struct.unpack_from(f"<{runs + 1}I", document, page)
        for run in range(runs):
            offset = 2 * document[page + 4 * (runs + 1) + run]
            properties = document[page + offset + 1 : page + offset + 1 + document[page + offset]] if offset else b""
            yield borders[run], borders[run + 1], properties


def characters_of(runs: Iterable[tuple[int, int, T]], document: bytes, table: bytes) -> Iterator[tuple[slice, T]]:
    """Yield the place of each character of these runs that is in a piece of text, and what its run has."""
    ordered = sorted(runs, key=itemgetter(0, 1))
    ends = [*accumulate((end for _, end, _ in ordered), max)]
    for offset, characters, is_bytes in pieces(document, table) if ordered else ():
        width = 1 if is_bytes else 2
        piece_end = min(offset + characters * width, len(document))
        for start, end, what in islice(ordered, bisect_right(ends, offset), None):
            if start >= piece_end:
                break
            for place in range(max(start, offset), min(end, piece_end), width):
                yield slice(place, place + width), what


def with_document(data: bytes, document: bytes) -> bytes:
    """Return the file with another main stream of the same length."""
    changed = io.BytesIO(data)
    with olefile.OleFileIO(changed, write_mode=True) as file:
        file.write_stream("WordDocument", document)
        return changed.getvalue()


def properties_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind and the operand of each property in a list."""
    place = 0
    while place + 3 <= len(data):
        (kind,) = struct.unpack_from("<H", data, place)
        place += 2
        size = kind >> 13
        if size == _LARGE_OPERAND:
            length = 1 + (struct.unpack_from("<H", data, place)[0] if kind == _LARGE else data[place])
        else:
            length = _OPERAND_BYTES[size]
        yield kind, data[place : place + length]
        place += length
