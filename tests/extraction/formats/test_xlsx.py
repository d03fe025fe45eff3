"""Workbooks made element by element: only used cells are read, with values as displayed."""

import io
import zipfile

import pytest

from dagster_offload.extraction.formats.office.xlsx import xlsx_text
from dagster_offload.extraction.formats.parts.number_format import display
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive

MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'


def related(**targets: tuple[str, str]) -> str:
    one = '<Relationship Id="{}" Type="{}/{}" Target="{}"/>'
    return f"<Relationships>{''.join(one.format(name, OFFICE, *target) for name, target in targets.items())}</Relationships>"


def workbook(
    cells: str, *, codes: tuple[str, ...] = (), properties: str = "", members: dict[str, str] | None = None
) -> str:
    """The text of a workbook of one sheet; `codes` are the formats of styles 1, 2 and so on."""
    formats = "".join(f'<numFmt numFmtId="{164 + n}" formatCode="{code}"/>' for n, code in enumerate(codes))
    styles = "".join(f'<xf numFmtId="{164 + n}"/>' for n in range(len(codes)))
    parts = {
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}">{properties}<sheets><sheet name="Plan" r:id="s"/></sheets>'
        "</workbook>",
        "xl/_rels/workbook.xml.rels": related(
            s=("worksheet", "worksheets/a.xml"), t=("sharedStrings", "strings.xml"), f=("styles", "styles.xml")
        ),
        "xl/worksheets/a.xml": f"<worksheet {MAIN}><sheetData>{cells}</sheetData></worksheet>",
        "xl/styles.xml": f'<styleSheet {MAIN}><numFmts>{formats}</numFmts><cellXfs><xf numFmtId="0"/>{styles}</cellXfs>'
        "</styleSheet>",
        **(members or {}),
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return xlsx_text(made.getvalue())


def row(number: int, *cells: str) -> str:
    return f'<row r="{number}">{"".join(cells)}</row>'


def text(reference: str, content: str) -> str:
    return f'<c r="{reference}" t="inlineStr"><is><t>{content}</t></is></c>'


@pytest.mark.parametrize(
    ("value", "code", "shown"),
    [
        (0.3958333333333333, "h:mm", "9:30"),
        (0.3958333333333333, "h:mm:ss AM/PM", "9:30:00 AM"),
        (0.75, "[$-412]AM/PM h:mm;@", "6:00 PM"),
        (0, "h:mm AM/PM", "12:00 AM"),
        (0.0625, "hh:mm", "01:30"),
        (45720.0625, "yyyy-mm-dd hh:mm:ss", "2025-03-04 01:30:00"),
        (1.0625, "[hh]:mm", "25:30"),
        (45720.5, "m/d/yy h:mm AM/PM", "2025-03-04 12:00 PM"),
        (1.5, "[h]:mm", "36:00"),
        (0.85, "0%", "85%"),
        (0.025, "0%", "2.5%"),
        (45720, "yyyy-mm-dd", "2025-03-04"),
        (45720, 'yyyy"년" m"월" d"일"', "2025-03-04"),
        (45720, "[$-409]d\\-mmm\\-yy;@", "2025-03-04"),
        (45720.75, "m/d/yy h:mm", "2025-03-04 18:00"),
        (1, "yyyy-mm-dd", "1900-01-01"),
        (1250000, "₩#,##0", "₩1,250,000"),
        (1250000, "[$₩-412]#,##0", "₩1,250,000"),
        (-4.5, '#,##0.00"€";[Red](#,##0.00"€")', "-4.50€"),
        (1599.5, "$#,##0.00", "$1,599.50"),
        (1599.987, "$#,##0.00", "$1,599.987"),
        (1e20, "$#,##0.00", "$1e+20"),
        (12, '0" kg"', "12 kg"),
        (1234567.891, "#,##0.00", "1234567.891"),
        (0.1 + 0.2, "", "0.3"),
        (-3, "General", "-3"),
        (1e20, "0", "1e+20"),
        (-1, "yyyy-mm-dd", "-1"),
        (3187, "00000", "03187"),
        (1012345678, "000\\-0000\\-0000", "010-1234-5678"),
        (2208162517, "000-00-00000", "220-81-62517"),
        (5551234, "[<=9999999]###-####;(###) ###-####", "555-1234"),
        (2125551234, "[<=9999999]###-####;(###) ###-####", "(212) 555-1234"),
        (20250304, "0000-00-00", "2025-03-04"),
        (7, "##-##", "-7"),
        (1234567, '0.0,,"M"', "1.234567M"),
        (1250000, "#,##0,", "1250"),
        (1, '"yes";"no";"none"', "yes"),
        (-1, '"yes";"no";"none"', "no"),
        (0, '"yes";"no";"none"', "none"),
        (0, '#,##0;-#,##0;"-"', "0"),
        (-4.5, '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-', "-4.50 €"),
        (1234.5, "[$USD] #,##0.00", "USD 1,234.50"),
        (3, '0 "pcs;"', "3 pcs;"),
        (0.5, "# ?/?", "0.5"),
        (5, ";;;", "5"),
        (3, 'General" kg"', "3 kg"),
        (3, '"General "0', "General 3"),
        (7, '"No. "@', "No. 7"),
        (float("inf"), "$#,##0", "inf"),
        (-5, '0" CR";0" DR"', "5 DR"),
        (5, '0" CR";0" DR"', "5 CR"),
        (-5, '"Gewinn "0;"Verlust "0', "Verlust 5"),
        (-5, '"▲"0.0;"▼"0.0', "▼5"),
        (-5, '"+"0;"-"0', "-5"),
        (5, '"+"0;"-"0', "+5"),
        (-3, '"+"0" °C";"−"0" °C"', "-3 °C"),
        (-5, '#,##0;"▲"#,##0', "-5"),
        (-5, '0" above";-0" below"', "-5 below"),
        (-5, '0" kr";[Red]-0" kr."', "-5 kr."),
        (-5, '0" m";"–"0" m."', "-5 m."),
        (-5, '"$"#,##0_);\\("$"#,##0\\)', "-$5"),
    ],
)
def test_a_number_is_formatted_as_the_sheet_displays_it(value: float, code: str, shown: str) -> None:
    assert display(value, code) == shown


def test_days_may_count_from_1904() -> None:
    assert display(44258, "yyyy-mm-dd", is_1904=True) == "2025-03-04"


def test_a_sheet_is_a_table_below_its_name() -> None:
    cells = row(1, text("A1", "교육"), text("B1", "시작")) + row(
        2, text("A2", "안전"), '<c r="B2" s="1"><v>0.3958333333333333</v></c>', '<c r="C2" t="b"><v>1</v></c>'
    )
    assert workbook(cells, codes=("h:mm",)) == (
        "## Plan\n\n| 교육 | 시작 |  |\n| --- | --- | --- |\n| 안전 | 9:30 | TRUE |"
    )


def test_a_stray_cell_adds_one_row_and_one_column() -> None:
    near = row(1, text("A1", "a"), text("B1", "b"))
    assert workbook(near + row(150_000, '<c r="XFD150000" s="1"/>')) == "## Plan\n\n| a | b |\n| --- | --- |"
    assert workbook(near + row(150_000, text("XFD150000", "far"))) == (
        "## Plan\n\n| a | b |  |\n| --- | --- | --- |\n|  |  | far |"
    )


def test_shared_strings_are_read_without_phonetic_guides() -> None:
    strings = f"<sst {MAIN}><si><r><t>会</t></r><r><t>議</t></r><rPh><t>カイギ</t></rPh></si></sst>"
    cells = row(1, '<c r="A1" t="s"><v>0</v></c>', text("B1", "x"))
    assert "| 会議 | x |" in workbook(cells, members={"xl/strings.xml": strings})


@pytest.mark.parametrize("index", ["7", "-1", "x", "9" * 30])
def test_a_damaged_index_of_a_string_costs_one_cell(index: str) -> None:
    cells = row(1, text("A1", "Rent"), f'<c r="B1" t="s"><v>{index}</v></c>', text("C1", "700"))
    strings = {"xl/strings.xml": f"<sst {MAIN}><si><t>a</t></si></sst>"}
    assert workbook(cells, members=strings) == "## Plan\n\n| Rent | 700 |\n| --- | --- |"


def test_a_workbook_whose_strings_are_lost_is_broken() -> None:
    with pytest.raises(BrokenArchive):
        workbook(row(1, '<c r="A1" t="s"><v>0</v></c>', text("B1", "x")))


def test_text_boxes_and_titles_of_charts_are_read() -> None:
    box = f"<box {DRAWING}><a:p><a:r><a:t>in the box</a:t></a:r></a:p></box>"
    chart = f"<chart {DRAWING}><title><a:p><a:r><a:t>Ducks</a:t></a:r></a:p></title></chart>"
    members = {
        "xl/worksheets/_rels/a.xml.rels": related(d=("drawing", "../drawings/d.xml")),
        "xl/drawings/d.xml": box,
        "xl/drawings/_rels/d.xml.rels": related(c=("chart", "../charts/c.xml")),
        "xl/charts/c.xml": chart,
    }
    assert workbook("", members=members) == "## Plan\n\nin the box\n\nDucks"


def test_an_old_mac_workbook_counts_its_days_from_1904() -> None:
    cells = row(1, '<c r="A1" s="1"><v>44258</v></c>', text("B1", "x"))
    assert "| 2025-03-04 | x |" in workbook(cells, codes=("yyyy-mm-dd",), properties='<workbookPr date1904="1"/>')


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(40)])
def test_other_data_is_refused_as_a_broken_workbook(data: bytes) -> None:
    with pytest.raises(BrokenArchive):
        xlsx_text(data)


@pytest.mark.parametrize("result", ["", "<v/>", "<v></v>"])
def test_a_formula_that_no_program_has_calculated_is_written_as_a_formula(result: str) -> None:
    total = f'<c r="B1"><f>SUM(A1:A9)</f>{result}</c>'
    blank = '<c r="C1" t="str"><f>""</f><v></v></c>'
    assert "=SUM(A1:A9)" in workbook(row(1, text("A1", "total"), total))
    assert "=" not in workbook(row(1, text("A1", "total"), blank))


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Rent_x000D_\ndue", "Rent due"),
        ("a_x0009_b", "a b"),
        ("a_x005F_x000D_b", "a_x000D_b"),
        ("_xD83D__xDE00_", "😀"),
        ("_x00e9_", "é"),
        ("_x12_ file_x000_ _X000D_", "_x12_ file_x000_ _X000D_"),
        ("_xD83D_!", "!"),
    ],
)
def test_characters_that_are_stored_by_their_numbers_are_read(stored: str, shown: str) -> None:
    strings = f"<sst {MAIN}><si><t>{stored}</t></si><si><r><t>{stored}</t></r></si></sst>"
    cells = (
        '<c r="A1" t="s"><v>0</v></c>',
        '<c r="B1" t="s"><v>1</v></c>',
        text("C1", stored),
        f'<c r="D1" t="str"><f>A1</f><v>{stored}</v></c>',
    )
    assert workbook(row(1, *cells), members={"xl/strings.xml": strings}) == (
        f"## Plan\n\n| {shown} | {shown} | {shown} | {shown} |\n| --- | --- | --- | --- |"
    )


def test_the_advice_of_a_drawing_to_get_a_newer_program_is_no_text_of_the_sheet() -> None:
    advice = "<xdr:sp><a:p><a:r><a:t>This shape represents a slicer.</a:t></a:r></a:p></xdr:sp>"
    compatible = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
    choice = f"<mc:AlternateContent {compatible}><mc:Choice/><mc:Fallback>{advice}</mc:Fallback></mc:AlternateContent>"
    members = {
        "xl/worksheets/_rels/a.xml.rels": related(d=("drawing", "../drawings/d.xml")),
        "xl/drawings/d.xml": f'<xdr:wsDr {DRAWING} xmlns:xdr="x">{choice}</xdr:wsDr>',
    }
    assert workbook(row(1, text("A1", "berths")), members=members) == "## Plan\n\nberths"
