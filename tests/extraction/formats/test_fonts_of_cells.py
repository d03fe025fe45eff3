"""Cells whose font, or a part of which, is struck out or raised, in the workbooks that are not XLSX."""

import struct

import pytest

from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.office97.xls import xls_text
from dagster_offload.extraction.formats.office97.xlsb import xlsb_text
from tests.extraction.formats.test_office import ODF, archive
from tests.extraction.formats.test_sheets97 import cell, number, row, wide, workbook, xlsb
from tests.extraction.formats.test_sheets97 import record as old_record

STYLE = 'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"'


def ods(rows: str) -> str:
    """The text of a sheet with the styles `raised`, `struck` and `plain`."""
    properties = {
        "raised": 'style:text-position="super 58%"',
        "struck": 'style:text-line-through-style="solid"',
        "plain": 'style:text-line-through-style="none"',
    }
    styles = "".join(
        f'<style:style style:name="{name}"><style:text-properties {how}/></style:style>'
        for name, how in properties.items()
    )
    content = (
        f"<office:document-content {ODF} {STYLE}><office:automatic-styles>{styles}</office:automatic-styles><office:body>"
        f'<office:spreadsheet><table:table table:name="Plan">{rows}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    )
    return open_document_text(archive({"content.xml": content})).removeprefix("## Plan\n\n")


def odf_cell(text: str, more: str = "") -> str:
    return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"


def span(style: str, text: str) -> str:
    return f'<text:span text:style-name="{style}">{text}</text:span>'


def test_a_part_of_a_cell_of_an_open_document_is_raised_or_struck_out() -> None:
    cells = odf_cell(f"10{span('raised', '6')} m") + odf_cell(f"Rent {span('struck', '500')} 400")
    assert ods(f"<table:table-row>{cells}</table:table-row>").startswith("| 10⁶ m | Rent ~~500~~ 400 |")


def test_a_cell_of_an_open_document_is_struck_out_by_its_own_style_or_by_that_of_its_row_or_column() -> None:
    columns = (
        '<table:table-column table:number-columns-repeated="2"/>'
        '<table:table-column table:default-cell-style-name="struck" table:number-columns-repeated="2"/>'
    )
    own, plain = 'table:style-name="struck"', 'table:style-name="plain"'
    first = odf_cell("1", own) + odf_cell("2") + odf_cell("3") + odf_cell("4", plain) + odf_cell("5")
    second = odf_cell("6", 'table:number-columns-repeated="3"') + odf_cell("7")
    third = odf_cell(f"8 {span('plain', 'of')} 9")
    assert ods(
        f"{columns}<table:table-row>{first}</table:table-row><table:table-row>{second}</table:table-row>"
        f'<table:table-row table:default-cell-style-name="struck">{third}</table:table-row>'
    ) == (
        "| ~~1~~ | 2 | ~~3~~ | 4 | 5 |\n| --- | --- | --- | --- | --- |\n| 6 | 6 | 6 | ~~7~~ |  |\n| ~~8~~ of ~~9~~ |  |  |  |  |"
    )


def old_font(*, flags: int = 0, position: int = 0) -> bytes:
    return old_record(0x0031, struct.pack("<HHHHHBBBBBB", 200, flags, 0, 400, position, 0, 0, 0, 0, 1, 0) + b"A")


def rich(column: int, text: str, *runs: tuple[int, int]) -> bytes:
    """A cell of an Excel 97 file in which other fonts begin."""
    marks = b"".join(struct.pack("<HH", *run) for run in runs)
    head = struct.pack("<HHHHB", 0, column, 0, len(text), 0)
    return old_record(0x00D6, head + text.encode() + struct.pack("<H", len(runs)) + marks)


def test_an_old_workbook_keeps_raised_digits_and_what_is_struck_out_apart() -> None:
    struck_number = number(1, 0, 1, 500)
    fonts = (old_font(position=1), old_font(flags=8))
    text = xls_text(
        workbook(rich(0, "106 m", (2, 1), (3, 0)), rich(1, "Rent 5", (5, 2)), struck_number, fonts=fonts, struck=2)
    )
    assert text == "## 표\n\n| 10⁶ m | Rent ~~5~~ |\n| --- | --- |\n| ~~500~~ |  |"


@pytest.mark.parametrize("runs", [[(2, 9)], [(5, 1), (0, 2), (9, 1)]])
def test_fonts_that_an_old_workbook_does_not_have_cost_no_words(runs: list[tuple[int, int]]) -> None:
    assert "Rent" in xls_text(workbook(rich(0, "Rent", *runs)))


def rich_string(text: str, *runs: tuple[int, int]) -> bytes:
    return b"\1" + wide(text) + struct.pack("<I", len(runs)) + b"".join(struct.pack("<HH", *run) for run in runs)


def font(*, flags: int = 0, position: int = 0) -> bytes:
    return struct.pack("<HHHH", 200, flags, 400, position) + bytes(14)


def test_a_binary_workbook_keeps_raised_digits_and_what_is_struck_out_apart() -> None:
    text = xlsb_text(
        xlsb(
            row(0), cell(7, 0, struct.pack("<I", 0)), cell(62, 1, rich_string("Rent 5", (5, 2))),
            row(1), cell(5, 0, struct.pack("<d", 500), 3),
            strings=(rich_string("106 m", (2, 1), (3, 0)),), fonts=(font(), font(position=1), font(flags=8)),
        )
    )  # fmt: skip
    assert text == "## Plan 계획\n\n| 10⁶ m | Rent ~~5~~ |\n| --- | --- |\n| ~~500~~ |  |"


@pytest.mark.parametrize("cut", [b"\1" + wide("Rent"), b"\1" + wide("Rent") + struct.pack("<IHB", 2**32 - 1, 2, 1)])
def test_fonts_that_are_cut_off_cost_no_words_of_a_binary_workbook(cut: bytes) -> None:
    assert xlsb_text(xlsb(row(0), cell(62, 0, cut))) == "## Plan 계획\n\nRent"
