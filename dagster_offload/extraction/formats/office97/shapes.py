"""Find the shapes of an Office drawing, and the tables that groups of shapes form ([MS-ODRAW])."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dagster_offload.extraction.formats.office97.records import Record

_DRAWING, _GROUP, _SHAPE = 0xF002, 0xF003, 0xF004
_FLAGS, _OPTIONS, _MORE_OPTIONS = 0xF00A, 0xF00B, 0xF122
_TEXT_BOX, _CHILD_ANCHOR, _CLIENT_DATA = 0xF00D, 0xF00F, 0xF011
_IS_DELETED = 0x8
_PICTURE, _WORD_ART, _IS_TABLE, _GROUP_BOOLEANS = 0x0104, 0x00C0, 0x039F, 0x03BF
_IS_HIDDEN, _USES_HIDDEN = 0x2, 0x20000
_IS_COMPLEX = 0x8000
_NUMBER = 0x3FFF


@dataclass(frozen=True)
class Shape:
    """A shape. `text_box` and `client_data` are records of the program. `picture` counts from 1, 0 is none.

    `top` and `left` are set in groups.
    """

    text_box: memoryview
    client_data: memoryview
    word_art: str
    picture: int
    top: int
    left: int


Table = list[list[Shape]]


def shapes_in(drawing: Record) -> Iterator[Shape | Table]:
    """Yield the visible shapes in their order, and tables as rows of shapes."""
    for record in drawing.children():
        if record.kind == _DRAWING:
            yield from shapes_in(record)
        elif record.kind == _GROUP:
            yield from _group(record)
        elif record.kind == _SHAPE:
            yield from _shape(record)


def _group(group: Record) -> Iterator[Shape | Table]:
    own = group.first_of(_SHAPE)
    if own is None or not _options(own)[0].get(_IS_TABLE, 0) & 1:
        yield from shapes_in(group)
        return
    rows: dict[int, list[Shape]] = {}
    for cell in shapes_in(group):
        if isinstance(cell, Shape) and cell.text_box:
            rows.setdefault(cell.top, []).append(cell)
    yield [sorted(row, key=lambda cell: cell.left) for _, row in sorted(rows.items())]


def _shape(record: Record) -> Iterator[Shape]:
    parts = {child.kind: child.data for child in record.children()}
    options, word_art = _options(record)
    flags = struct.unpack_from("<I", parts[_FLAGS], 4)[0] if _FLAGS in parts else 0
    booleans = options.get(_GROUP_BOOLEANS, 0)
    if flags & _IS_DELETED or (booleans & _USES_HIDDEN and booleans & _IS_HIDDEN):
        return
    left, top = struct.unpack_from("<ii", parts[_CHILD_ANCHOR]) if _CHILD_ANCHOR in parts else (0, 0)
    nothing = memoryview(b"")
    yield Shape(
        text_box=parts.get(_TEXT_BOX, nothing),
        client_data=parts.get(_CLIENT_DATA, nothing),
        word_art=word_art,
        picture=options.get(_PICTURE, 0),
        top=top,
        left=left,
    )


def _options(shape: Record) -> tuple[dict[int, int], str]:
    """Return the options of a shape by number, and its WordArt text."""
    found: dict[int, int] = {}
    word_art = ""
    for record in shape.children():
        if record.kind not in (_OPTIONS, _MORE_OPTIONS):
            continue
        offset = 6 * record.instance  # the long values follow the table of options
        for index in range(record.instance):
            head, value = struct.unpack_from("<HI", record.data, 6 * index)
            found[head & _NUMBER] = value
            if head & _IS_COMPLEX:
                if head & _NUMBER == _WORD_ART:
                    word_art = bytes(record.data[offset : offset + value]).decode("utf-16-le", "replace").rstrip("\0")
                offset += value
    return found, word_art
