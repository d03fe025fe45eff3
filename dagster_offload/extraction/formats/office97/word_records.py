"""Find the records of a Word document (97 to 2003): its table stream, its pieces of text, and properties in a list.

Format specification: [MS-DOC].
"""

import struct
from collections.abc import Iterator

import olefile

_WORD_97 = b"\xec\xa5"
_FLAGS, _SECOND_TABLE = 0x0A, 0x0200
_PIECES = 0x01A2  # where the header has the place and the length of the pieces
_PROPERTIES_PIECE, _TEXT_PIECES = 1, 2
_IS_BYTES = 0x40000000  # of a piece: one byte a character, at half the offset
_OPERAND_BYTES = {0: 1, 1: 1, 2: 2, 3: 4, 4: 2, 5: 2, 7: 3}
_LARGE_OPERAND, _LARGE = 6, 0xD608  # a length of one byte comes first; of a table's definition, of two bytes


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
