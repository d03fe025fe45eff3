"""Overwrite the text of a Word document (97 to 2003) that its pages do not show: hidden text and tracked deletions.

office-oxide reads both like other text.
"""

import io
import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, islice

import olefile

from dagster_offload.extraction.formats.office97.word_records import pieces, properties_in, table_of

_PAGES = 0x00FA  # where the header has the place and the length of the pages of character properties
_PAGE = 512
_DELETED, _HIDDEN = 0x0800, 0x083C
_ON = (b"\x01", b"\x81")  # 0x81: unlike the style
_NO_TEXT = 0x1F  # an optional hyphen, which office-oxide and `clean` leave out
_KEPT = frozenset(range(0x20))  # ends of paragraphs and cells, borders of fields


def without_hidden_text(data: bytes) -> bytes:
    """Return the file without its hidden text and its tracked deletions. Raises errors of damage."""
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        document = bytes(file.openstream("WordDocument").read())
        table = table_of(file, document)
    if table is None:
        return data
    shown = bytearray(document)
    hidden = sorted(_hidden(document, table))
    ends = [*accumulate((end for _, end in hidden), max)]
    for offset, characters, is_bytes in pieces(document, table) if hidden else ():
        width = 1 if is_bytes else 2
        piece_end = min(offset + characters * width, len(document))
        for start, end in islice(hidden, bisect_right(ends, offset), None):
            if start >= piece_end:
                break
            for place in range(max(start, offset), min(end, piece_end), width):
                if int.from_bytes(shown[place : place + width], "little") not in _KEPT:
                    shown[place : place + width] = _NO_TEXT.to_bytes(width, "little")
    return data if shown == document else _with_stream(data, bytes(shown))


def _with_stream(data: bytes, document: bytes) -> bytes:
    changed = io.BytesIO(data)
    with olefile.OleFileIO(changed, write_mode=True) as file:
        file.write_stream("WordDocument", document)
        return changed.getvalue()


def _hidden(document: bytes, table: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each run of hidden or deleted text begins and ends in the stream `document`."""
    start, size = struct.unpack_from("<II", document, _PAGES)
    count = max(0, (size - 4) // 8)
    for number in struct.unpack_from(f"<{count}I", table, start + 4 * (count + 1)):
        page = _PAGE * (number & 0x3FFFFF)
        runs = document[page + _PAGE - 1]
        borders = struct.unpack_from(f"<{runs + 1}I", document, page)
        for run in range(runs):
            offset = 2 * document[page + 4 * (runs + 1) + run]
            properties = document[page + offset + 1 : page + offset + 1 + document[page + offset]] if offset else b""
            if any(kind in (_DELETED, _HIDDEN) and value in _ON for kind, value in properties_in(properties)):
                yield borders[run], borders[run + 1]
