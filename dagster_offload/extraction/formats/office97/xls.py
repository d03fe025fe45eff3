"""Read Excel workbooks of versions 2 to 2003 (XLS) with xlrd: used cells as they are displayed, then drawn texts.

xlrd reads cells and their formats. This module opens the container, hides from xlrd what is no cell, and adds text boxes
and the titles of charts ([MS-XLS] 2.4.329, 2.4.254).
"""

import io
import struct
from collections.abc import Iterator

import olefile
import xlrd
from xlrd.book import Book
from xlrd.compdoc import CompDocError
from xlrd.sheet import Cell, Sheet

from dagster_offload.extraction import file_types
from dagster_offload.extraction.file_types.containers import DAMAGE_ERRORS, is_compound
from dagster_offload.extraction.formats.parts.line_marks import shown_line, struck
from dagster_offload.extraction.formats.parts.markdown import Row
from dagster_offload.extraction.formats.parts.number_format import display, plain
from dagster_offload.extraction.formats.parts.sheet import Font, sheet_text, with_fonts
from dagster_offload.extraction.refusals import broken, protected

_STREAMS = ("Workbook", "WORKBOOK", "Book", "BOOK")
_OBJECT, _TEXT_BOX, _CONTINUE, _CHART_TEXT = 0x005D, 0x01B6, 0x003C, 0x100D
# Our text uses none of these records, and damage in them would cost the whole workbook: names, comments, drawn objects, links.
_NO_CELLS = frozenset({0x0018, 0x001C, _OBJECT, _TEXT_BOX, 0x01B8, 0x0800})
_IGNORED = 0x00FF  # an index of the shared strings, which xlrd skips
_NOTE = 0x19  # type of object: the frame of a comment on a cell
_BEGIN, _END, _TITLE = 0x1033, 0x1034, 0x1025


def xls_text(data: bytes) -> str:
    """Return the text of a workbook. Raises `FileRefused`."""
    try:
        stream = _stream(data)
        book = xlrd.open_workbook(
            file_contents=_only_cells(stream), formatting_info=True, ragged_rows=True, on_demand=True, logfile=io.StringIO(),
            ignore_workbook_corruption=True,
        )  # fmt: skip
        texts = [sheet_text(name, _rows(book, book.sheet_by_name(name))) for name in book.sheet_names()]
        return "\n\n".join(filter(str.strip, [*texts, *drawn_texts(stream)]))
    except xlrd.XLRDError as error:  # never forwarded: the message may quote the document
        if "encrypted" in str(error):
            raise protected() from None
        raise broken(file_types.EXCEL, data) from None
    except (*DAMAGE_ERRORS, AssertionError, CompDocError):
        raise broken(file_types.EXCEL, data) from None


def _rows(book: Book, sheet: Sheet) -> Iterator[Row]:
    for index in range(sheet.nrows):
        row: Row = {}
        for column, cell in enumerate(sheet.row(index)):
            runs = sheet.rich_text_runlist_map.get((index, column), ())
            text = with_fonts(_shown(book, cell), [(start, _font(book, font)) for start, font in runs])
            text = shown_line(struck(text) if _cell_font(book, cell).is_struck else text)
            if text.strip():
                row[column] = text
        yield row


def _cell_font(book: Book, cell: Cell) -> Font:
    style = cell.xf_index
    return Font() if style is None or style >= len(book.xf_list) else _font(book, book.xf_list[style].font_index)


def _font(book: Book, index: int) -> Font:
    if index >= len(book.font_list):
        return Font()
    font = book.font_list[index]
    return Font(is_raised=font.escapement == 1, is_struck=bool(font.struck_out))


def _shown(book: Book, cell: Cell) -> str:
    match cell.ctype:
        case xlrd.XL_CELL_TEXT:
            return str(cell.value)
        case xlrd.XL_CELL_NUMBER | xlrd.XL_CELL_DATE:
            if cell.xf_index is None:
                return plain(cell.value)
            number_format = book.format_map.get(book.xf_list[cell.xf_index].format_key)
            return display(cell.value, number_format.format_str if number_format else "", is_1904=book.datemode == 1)
        case xlrd.XL_CELL_BOOLEAN:
            return "TRUE" if cell.value else "FALSE"
        case xlrd.XL_CELL_ERROR:
            return str(xlrd.error_text_from_code.get(cell.value, "#ERROR"))
        case _:
            return ""


def _stream(data: bytes) -> bytes:
    """Return the workbook's records. Files of versions 2 to 4 consist only of them."""
    if not is_compound(data):
        return data
    with olefile.OleFileIO(io.BytesIO(data)) as file:
        name = next(name for name in _STREAMS if file.exists(name))
        return bytes(file.openstream(name).read())


def _only_cells(stream: bytes) -> bytes:
    """Return the records with another kind for those that are no cells. Sheets are found by their offsets, which stay."""
    records = bytearray(stream)
    for offset, kind, _ in _records(stream):
        if kind in _NO_CELLS:
            struct.pack_into("<H", records, offset, _IGNORED)
    return bytes(records)


def _records(stream: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the offset, the kind and the size of each record."""
    offset = 0
    while offset + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, offset)
        yield offset, kind, size
        offset += 4 + size


def drawn_texts(stream: bytes) -> Iterator[str]:
    """Yield the texts of boxes, without comments on cells, and the titles of charts. Each different text comes once."""
    yield from dict.fromkeys(_drawn_texts(stream))


def _drawn_texts(stream: bytes) -> Iterator[str]:
    is_note, blocks, before = False, [0], 0
    for offset, kind, size in _records(stream):
        record = stream[offset + 4 : offset + 4 + size]
        if kind == _OBJECT and size >= 6:
            is_note = struct.unpack_from("<H", record, 4)[0] == _NOTE
        elif kind == _CONTINUE and before == _TEXT_BOX and size > 1 and not is_note:
            yield _characters(record)
        elif kind == _BEGIN:
            blocks.append(before)
        elif kind == _END and len(blocks) > 1:
            blocks.pop()
        elif kind == _CHART_TEXT and blocks[-1] == _TITLE and size > 3:
            yield _characters(record[3:])
        before = kind


def _characters(data: bytes) -> str:
    """Return a string of Excel 97: a byte of flags, then characters of one or two bytes."""
    text = data[1:].decode("utf-16-le" if data[0] & 1 else "latin-1", "replace")
    return text.replace("\r", "\n")
