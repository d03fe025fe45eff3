"""Read binary Excel workbooks (XLSB) sheet by sheet: used cells as a table, text boxes, titles of charts.

Values are written as the sheet shows them. Format specification: [MS-XLSB].
"""

import struct
from collections.abc import Iterator

from dagster_offload.extraction.file_types.containers import OfficeArchive
from dagster_offload.extraction.formats.parts.line_marks import shown_line, struck
from dagster_offload.extraction.formats.parts.markdown import Row
from dagster_offload.extraction.formats.parts.number_format import builtin_code, display
from dagster_offload.extraction.formats.parts.sheet import Font, Sheet, shared_string, texts_of_sheets, with_fonts
from dagster_offload.extraction.formats.parts.zip_xml import archive_text, main_part, relations

_WORKBOOK = "xl/workbook.bin"
_STRINGS, _STYLES = "sharedStrings", "styles"  # the last words of relationship types
_PROPERTIES, _SHEET = 153, 156
_ROW = 0
_RK, _ERROR, _BOOLEAN, _REAL, _STRING, _SHARED = 2, 3, 4, 5, 6, 7
_FORMULA_STRING, _FORMULA_REAL, _FORMULA_BOOLEAN, _FORMULA_ERROR, _RICH_STRING = 8, 9, 10, 11, 62
_CELLS = frozenset((*range(_RK, _FORMULA_ERROR + 1), _RICH_STRING))
_STRING_ITEM, _FONT, _NUMBER_FORMAT, _CELL_FORMAT, _FORMATS_BEGIN, _FORMATS_END = 19, 43, 44, 47, 617, 618
_STRUCK_BIT, _SUPERSCRIPT = 8, 1
_SHORTEST_FONT, _SHORTEST_STYLE = 8, 6  # bytes; a damaged one is left out
_ERRORS = {
    0: "#NULL!",
    7: "#DIV/0!",
    15: "#VALUE!",
    23: "#REF!",
    29: "#NAME?",
    36: "#NUM!",
    42: "#N/A",
    43: "#GETTING_DATA",
}


def xlsb_text(data: bytes) -> str:
    """Return the text of an unprotected workbook. Raises `BrokenArchive`."""
    return archive_text(data, lambda archive: _Workbook(archive).texts())


class _Workbook:
    """One workbook: its sheets and their shared strings and formats."""

    def __init__(self, archive: OfficeArchive) -> None:
        self.archive = archive
        workbook = main_part(archive, _WORKBOOK)
        related = relations(archive, workbook)
        members = {kind.rpartition("/")[2]: member for kind, member in related.values()}
        styles = list(self._records(members.get(_STYLES)))
        self.fonts = [_font(record) for kind, record in styles if kind == _FONT]
        self.styles = list(_cell_styles(styles))
        self.strings = [
            self._rich_string(record, 0)
            for kind, record in self._records(members.get(_STRINGS))
            if kind == _STRING_ITEM
        ]
        self.is_1904 = False
        self.sheets: list[Sheet] = []
        for kind, record in self._records(workbook):
            if kind == _PROPERTIES:
                self.is_1904 = bool(record[0] & 1)
            elif kind == _SHEET:
                relation = _string(record, 8)
                name = _string(record, 12 + len(relation.encode("utf-16-le")))
                if relation:
                    self.sheets.append(Sheet(name, related[relation][1]))

    def texts(self) -> Iterator[str]:
        """Yield the text of each sheet."""
        return texts_of_sheets(self.archive, self.sheets, self._rows)

    def _records(self, member: str | None) -> Iterator[tuple[int, memoryview]]:
        if member is None:
            return iter(())
        return _records(self.archive.read(member))

    def _rows(self, member: str) -> Iterator[Row]:
        row: Row = {}
        for kind, record in self._records(member):
            if kind == _ROW:
                yield row
                row = {}
            elif kind in _CELLS:
                column, style = struct.unpack_from("<II", record)
                code, font = self.styles[style & 0xFFFFFF] if style & 0xFFFFFF < len(self.styles) else ("", 0)
                text = self._cell(kind, record, code)
                text = shown_line(struck(text) if self._font(font).is_struck else text)
                if text.strip():
                    row[column] = text
        yield row

    def _cell(self, kind: int, record: memoryview, code: str) -> str:
        if kind == _SHARED:
            (index,) = struct.unpack_from("<I", record, 8)
            return shared_string(self.strings, index)
        if kind in (_STRING, _FORMULA_STRING):
            return _string(record, 8)
        if kind == _RICH_STRING:
            return self._rich_string(record, 8)
        if kind in (_BOOLEAN, _FORMULA_BOOLEAN):
            return "TRUE" if record[8] else "FALSE"
        if kind in (_ERROR, _FORMULA_ERROR):
            return _ERRORS.get(record[8], "#ERROR")
        number = _short_number(record) if kind == _RK else struct.unpack_from("<d", record, 8)[0]
        return display(number, code, is_1904=self.is_1904)

    def _rich_string(self, record: memoryview, offset: int) -> str:
        """Return a string with marks for the fonts of its parts. A byte of flags is before it ([MS-XLSB] 2.5.121)."""
        text = _string(record, offset + 1)
        end = offset + 5 + len(text.encode("utf-16-le"))
        if not record[offset] & 1 or end + 4 > len(record):
            return text
        (count,) = struct.unpack_from("<I", record, end)
        count = min(count, (len(record) - end - 4) // 4)
        runs = struct.iter_unpack("<HH", record[end + 4 : end + 4 + 4 * count])
        return with_fonts(text, [(start, self._font(font)) for start, font in runs])

    def _font(self, index: int) -> Font:
        return self.fonts[index] if index < len(self.fonts) else Font()


def _records(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield the kind and content of each record. Both header fields take seven bits of each byte ([MS-XLSB] 2.1.4)."""
    view, offset = memoryview(data), 0
    while offset < len(view):
        kind, offset = _number(view, offset, 2)
        size, offset = _number(view, offset, 4)
        yield kind, view[offset : offset + size]
        offset += size


def _number(view: memoryview, offset: int, most_bytes: int) -> tuple[int, int]:
    number = 0
    for index in range(most_bytes):
        byte = view[offset + index]
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, offset + index + 1
    return number, offset + most_bytes


def _string(record: memoryview, offset: int) -> str:
    (count,) = struct.unpack_from("<I", record, offset)
    return (
        "" if count == 0xFFFFFFFF else bytes(record[offset + 4 : offset + 4 + 2 * count]).decode("utf-16-le", "replace")
    )


def _short_number(record: memoryview) -> float:
    """Unpack a number of 30 bits: an integer or the upper half of a double, divided by 100 if bit 0 is set."""
    (packed,) = struct.unpack_from("<I", record, 8)
    if packed & 2:
        number = float((packed >> 2) - (1 << 30 if packed >> 31 else 0))
    else:
        (number,) = struct.unpack("<d", struct.pack("<II", 0, packed & 0xFFFFFFFC))
    return number / 100 if packed & 1 else number


def _font(record: memoryview) -> Font:
    if len(record) < _SHORTEST_FONT:
        return Font()
    flags, _, position = struct.unpack_from("<HHH", record, 2)
    return Font(is_raised=position == _SUPERSCRIPT, is_struck=bool(flags & _STRUCK_BIT))


def _cell_styles(styles: list[tuple[int, memoryview]]) -> Iterator[tuple[str, int]]:
    """Yield the format code and the number of the font of each cell style."""
    own = {struct.unpack_from("<H", record)[0]: _string(record, 2) for kind, record in styles if kind == _NUMBER_FORMAT}
    is_cell_format = False
    for kind, record in styles:
        if kind in (_FORMATS_BEGIN, _FORMATS_END):
            is_cell_format = kind == _FORMATS_BEGIN
        elif kind == _CELL_FORMAT and is_cell_format:
            (number,) = struct.unpack_from("<H", record, 2)
            font = struct.unpack_from("<H", record, 4)[0] if len(record) >= _SHORTEST_STYLE else 0
            yield own[number] if number in own else builtin_code(number), font
