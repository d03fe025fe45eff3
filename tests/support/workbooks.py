"""Workbooks that no program would write."""

import io
import zipfile

TYPES = "http://schemas.openxmlformats.org/package/2006"
RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"


def panicking_xlsb() -> bytes:
    """An XLSB whose record of a sheet is too short. The extractor's Rust core panics on it."""
    begin_book, begin_sheets, sheet, end_sheets, end_book = (
        bytes([kind & 127 | 128, kind >> 7]) for kind in (131, 143, 156, 144, 132)
    )
    book = begin_book + b"\0" + begin_sheets + b"\0" + sheet + b"\x02ab" + end_sheets + b"\0" + end_book + b"\0"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{TYPES}/content-types"><Default Extension="bin" '
            'ContentType="application/vnd.ms-excel.sheet.binary.macroEnabled.main"/></Types>',
        )
        archive.writestr(
            "xl/_rels/workbook.bin.rels",
            f'<Relationships xmlns="{TYPES}/relationships"><Relationship Id="rId1" Type="{RELATION}" '
            'Target="worksheets/sheet1.bin"/></Relationships>',
        )
        archive.writestr("xl/workbook.bin", book)
        archive.writestr("xl/worksheets/sheet1.bin", b"")
    return out.getvalue()
