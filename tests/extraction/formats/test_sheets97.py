"""Old and binary Excel workbooks made record by record: formats, errors, charts, text boxes, damage, passwords."""

import io
import struct
import zipfile
from pathlib import Path

import msoffcrypto
import pytest
from msoffcrypto.format.ooxml import OOXMLFile

from dagster_offload.extraction.extractor import Extractor
from dagster_offload.extraction.file_types.well_known_password import opened
from dagster_offload.extraction.formats.office97.xls import xls_text
from dagster_offload.extraction.formats.office97.xlsb import xlsb_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from dagster_offload.extraction.refusals import FileRefused
from tests.extraction.made_compound import compound

FORMATS = Path(__file__).parents[3] / "fixtures" / "formats"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
GLOBALS, SHEET, CHART = 0x0005, 0x0010, 0x0020


def record(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def begin(kind: int) -> bytes:
    return record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 1997, 0, 6))


def characters(words: str) -> bytes:
    return b"\1" + words.encode("utf-16-le")


def number(row: int, column: int, style: int, value: float) -> bytes:
    return record(0x0203, struct.pack("<HHHd", row, column, style, value))


def label(row: int, column: int, words: str) -> bytes:
    return record(0x0204, struct.pack("<HHHH", row, column, 0, len(words)) + characters(words))


def workbook(
    *in_sheet: bytes, formats: tuple[str, ...] = (), fonts: tuple[bytes, ...] = (), struck: int | None = None
) -> bytes:
    """An Excel 97 file of one sheet. The styles are `General` (0), one for each format (from 1), and one of the font `struck`."""
    font = record(0x0031, struct.pack("<HHHHHBBBBBB", 200, 0, 0, 400, 0, 0, 0, 0, 0, 1, 0) + b"A")
    codes = [
        record(0x041E, struct.pack("<HH", 164 + index, len(code)) + characters(code))
        for index, code in enumerate(formats)
    ]
    styles = [
        record(0x00E0, struct.pack("<HHH", 0, number_format, 0) + bytes(14))
        for number_format in (0, *range(164, 164 + len(formats)))
    ]
    styles += [record(0x00E0, struct.pack("<HHH", struck, 0, 0) + bytes(14))] if struck is not None else []
    head = [begin(GLOBALS), record(0x0042, struct.pack("<H", 1200)), font, *fonts, *codes, *styles]
    sheet = b"".join([begin(SHEET), *in_sheet, record(0x000A)])
    name = "표"
    size = sum(map(len, head)) + len(record(0x0085, bytes(8 + 2 * len(name)))) + 4
    listed = record(0x0085, struct.pack("<IHBB", size, 0, len(name), 1) + name.encode("utf-16-le"))
    return compound({"Workbook": b"".join([*head, listed, record(0x000A), sheet])})


def test_values_of_an_old_workbook_are_shown_as_a_person_sees_them() -> None:
    data = workbook(
        label(0, 0, "시작"), label(0, 1, "참석률"), label(0, 2, "합계"), number(1, 0, 1, 9.5 / 24), number(1, 1, 2, 0.85),
        number(1, 2, 3, 1250000), number(2, 2, 0, 1234567890123450.0), formats=("h:mm", "0%", '"₩"#,##0'),
    )  # fmt: skip
    assert xls_text(data) == (
        "## 표\n\n| 시작 | 참석률 | 합계 |\n| --- | --- | --- |\n| 9:30 | 85% | ₩1,250,000 |\n|  |  | 1234567890123450 |"
    )


def test_an_embedded_chart_adds_its_title_and_leaves_the_cells_alone() -> None:
    title = record(0x1025) + record(0x1033) + record(0x100D, b"\0\0\5" + characters("Ducks")) + record(0x1034)
    series = record(0x1003) + record(0x1033) + record(0x100D, b"\0\0\4" + characters("pond")) + record(0x1034)
    chart = begin(CHART) + title + series + number(0, 0, 0, 999) + record(0x000A)
    data = workbook(label(0, 0, "pond"), number(1, 0, 0, 12), chart)
    assert xls_text(data) == "## 표\n\n| pond |\n| --- |\n| 12 |\n\nDucks"


def test_text_boxes_are_read_and_comments_on_cells_are_not() -> None:
    def box(kind: int, words: str) -> bytes:
        holder = record(0x005D, struct.pack("<HHHHH", 0x15, 18, kind, 1, 0) + bytes(12))
        return holder + record(0x01B6, bytes(18)) + record(0x003C, characters(words)) + record(0x003C, bytes(16))

    data = workbook(label(0, 0, "cell"), box(0x06, "in the box"), box(0x19, "a comment"))
    assert xls_text(data) == "## 표\n\ncell\n\nin the box"


def test_damage_in_what_is_no_cell_costs_no_cells() -> None:
    damaged = [record(kind, b"\xff" * 9) for kind in (0x0018, 0x001C, 0x005D, 0x01B6, 0x01B8, 0x0800)]
    assert (
        xls_text(workbook(label(0, 0, "cell"), *damaged, label(1, 0, "kept"))) == "## 표\n\n| cell |\n| --- |\n| kept |"
    )


def test_a_workbook_whose_container_gives_a_wrong_size_is_read() -> None:
    data = bytearray(workbook(label(0, 0, "cell")))
    entry = data.index("Workbook".encode("utf-16-le"))
    struct.pack_into("<Q", data, entry + 120, 4096 + 600)
    assert xls_text(bytes(data)) == "## 표\n\ncell"


def test_a_broken_and_a_locked_old_workbook_are_refused() -> None:
    locked = (FORMATS / "protected.xls").read_bytes()
    for data, code in (
        (b"xylophone-4711", "broken_file"),
        (compound({"Workbook": bytes(9)}), "broken_file"),
        (locked, "password_protected"),
    ):
        with pytest.raises(FileRefused) as refused:
            xls_text(data)
        assert refused.value.code == code
        assert "xylophone" not in refused.value.message


# XLSB


def binary(kind: int, data: bytes = b"") -> bytes:
    """A record of XLSB. Kind and size take seven bits of each byte."""
    head = bytes((kind,)) if kind < 0x80 else bytes((kind & 0x7F | 0x80, kind >> 7))
    size = len(data)
    while size >= 0x80:
        head += bytes((size & 0x7F | 0x80,))
        size >>= 7
    return head + bytes((size,)) + data


def wide(words: str) -> bytes:
    return struct.pack("<I", len(words.encode("utf-16-le")) // 2) + words.encode("utf-16-le")


def cell(kind: int, column: int, data: bytes, style: int = 0) -> bytes:
    return binary(kind, struct.pack("<II", column, style) + data)


def xlsb(
    *in_sheet: bytes, strings: tuple[str | bytes, ...] = ("start", "x" * 200), fonts: tuple[bytes, ...] = ()
) -> bytes:
    """A binary workbook of one sheet. Its styles are `General`, a time, a percentage, and one of the third font."""
    targets = {"worksheet": "worksheets/sheet1.bin", "sharedStrings": "sharedStrings.bin", "styles": "styles.bin"}
    one = '<Relationship Id="{0}" Type="{1}/{0}" Target="{2}"/>'
    listed = "".join(one.format(kind, OFFICE, target) for kind, target in targets.items())
    related = f"<Relationships>{listed}</Relationships>"
    styles = b"".join(binary(43, data) for data in fonts)
    styles += binary(44, struct.pack("<H", 164) + wide("h:mm")) + binary(626) + binary(47, bytes(16)) + binary(627)
    formats = [struct.pack("<HH", 0, number_format) + bytes(12) for number_format in (0, 164, 9)]
    formats.append(struct.pack("<HHH", 0, 0, 2) + bytes(10))
    styles += binary(617) + b"".join(binary(47, data) for data in formats) + binary(618)
    members = {
        "xl/workbook.bin": binary(153, bytes(12)) + binary(156, bytes(8) + wide("worksheet") + wide("Plan 계획")),
        "xl/_rels/workbook.bin.rels": related.encode(),
        "xl/sharedStrings.bin": b"".join(
            binary(19, b"\0" + wide(item) if isinstance(item, str) else item) for item in strings
        ),
        "xl/styles.bin": styles,
        "xl/worksheets/sheet1.bin": b"".join(in_sheet),
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return made.getvalue()


def row(index: int) -> bytes:
    return binary(0, struct.pack("<I", index) + bytes(13))


def test_a_damaged_index_of_a_string_costs_one_cell_of_a_binary_workbook() -> None:
    text = xlsb_text(xlsb(row(0), cell(7, 0, struct.pack("<I", 0)), cell(7, 1, struct.pack("<I", 99))))
    assert text == "## Plan 계획\n\nstart"


def test_a_binary_workbook_shows_values_booleans_errors_and_strings() -> None:
    text = xlsb_text(
        xlsb(
            row(0), cell(7, 0, struct.pack("<I", 0)), cell(6, 1, wide("rate")), cell(62, 3, b"\0" + wide("끝")),
            row(7), cell(5, 0, struct.pack("<d", 9.5 / 24), 1), cell(2, 1, struct.pack("<I", (85 << 2) | 3), 2),
            cell(4, 2, b"\1"), cell(3, 3, b"\x07"),
            row(9), cell(9, 0, struct.pack("<d", -2.5)), cell(2, 1, struct.pack("<i", (-7 << 2) | 2)),
            cell(2, 2, struct.pack("<I", struct.unpack("<Q", struct.pack("<d", 1.5))[0] >> 32)), cell(8, 3, wide("f")),
        )
    )  # fmt: skip
    assert text == (
        "## Plan 계획\n\n| start | rate |  | 끝 |\n| --- | --- | --- | --- |\n"
        "| 9:30 | 85% | TRUE | #DIV/0! |\n| -2.5 | -7 | 1.5 | f |"
    )


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(40), xlsb(row(0), cell(7, 0, bytes(4)), strings=())])
def test_other_data_and_lost_strings_are_refused_as_a_broken_archive(data: bytes) -> None:
    with pytest.raises(BrokenArchive):
        xlsb_text(data)


# The password that Excel tries by itself


def locked(content: bytes, password: str) -> bytes:
    out = io.BytesIO()
    OOXMLFile(io.BytesIO(content)).encrypt(password, out)
    return out.getvalue()


def test_a_workbook_with_the_password_of_excel_itself_opens_without_asking(tmp_path: Path) -> None:
    content = (FORMATS / "sheets.xlsx").read_bytes()
    (tmp_path / "a.xlsx").write_bytes(locked(content, "VelvetSweatshop"))
    with Extractor() as extractor:
        assert extractor.extract(tmp_path / "a.xlsx").text == extractor.extract(FORMATS / "sheets.xlsx").text


def test_a_workbook_with_another_password_and_other_files_stay_as_they_are() -> None:
    secret = locked((FORMATS / "sheets.xlsx").read_bytes(), "breakwater")
    assert msoffcrypto.OfficeFile(io.BytesIO(secret)).is_encrypted()
    for data in (secret, (FORMATS / "protected.xls").read_bytes(), (FORMATS / "report.doc").read_bytes(), b"text", b""):
        assert opened(data) == data
