"""OpenDocument files as other programs write them: templates, drawings, flat files, embedded charts and formulas."""

import io
import zipfile

import pytest

from dagster_offload.extraction.file_types import ODG, ODS, ODT
from dagster_offload.extraction.file_types.detection import detect_type
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.parts.picture_marks import filled
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import archive

ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "draw", "style", "presentation")
)


def open_document(kind: str, body: str, styles: str = "") -> bytes:
    content = f"<office:document-content {ODF}><office:body>{body}</office:body></office:document-content>"
    masters = (
        f"<office:document-styles {ODF}><office:master-styles>{styles}</office:master-styles></office:document-styles>"
    )
    mimetype = f"application/vnd.oasis.opendocument.{kind}"
    return archive({"mimetype": mimetype, "content.xml": content, "styles.xml": masters})


def test_templates_and_drawings_of_open_document_are_recognized() -> None:
    for kind, expected in (
        ("text-template", ODT),
        ("text-master", ODT),
        ("spreadsheet-template", ODS),
        ("graphics", ODG),
    ):
        assert detect_type(open_document(kind, "")) == expected
    drawing = "<office:drawing><draw:page><draw:rect><text:p>the pier</text:p></draw:rect></draw:page></office:drawing>"
    assert open_document_text(open_document("graphics", drawing)) == "the pier"


def test_the_margins_of_a_text_are_read_once_and_page_numbers_are_not() -> None:
    first = (
        "<style:header><text:p>Harbour Office</text:p></style:header><style:footer><text:p>12</text:p></style:footer>"
    )
    second = (
        "<style:header><text:p>Harbour Office</text:p></style:header>"
        '<style:footer-left style:display="false"><text:p>hidden</text:p></style:footer-left>'
        "<style:footer><text:p>Account 4711, Page <text:page-number>1</text:page-number></text:p></style:footer>"
    )
    styles = f"<style:master-page>{first}</style:master-page><style:master-page>{second}</style:master-page>"
    text = open_document_text(open_document("text", "<office:text><text:p>Dear Sir</text:p></office:text>", styles))
    assert text == "Harbour Office\n\nDear Sir\n\nAccount 4711, Page 1"


def test_what_all_slides_show_is_read_once_and_prompts_are_not() -> None:
    master = (
        '<draw:frame presentation:class="title"><draw:text-box><text:p>Click to edit</text:p></draw:text-box></draw:frame>'
        "<draw:frame><draw:text-box><text:p>Harbour Office</text:p></draw:text-box></draw:frame>"
    )
    body = (
        "<office:presentation><presentation:footer-decl>Council of May</presentation:footer-decl>"
        "<draw:page><draw:frame><draw:text-box><text:p>Berths</text:p></draw:text-box></draw:frame></draw:page>"
        "</office:presentation>"
    )
    slides = open_document("presentation", body, f"<style:master-page>{master}</style:master-page>")
    assert open_document_text(slides) == "Berths\n\nHarbour Office\n\nCouncil of May"


def test_a_cell_without_text_shows_its_value() -> None:
    def cell(kind: str, **values: str) -> str:
        given = "".join(f' office:{name.replace("_", "-")}="{value}"' for name, value in values.items())
        return f'<table:table-cell office:value-type="{kind}"{given}/>'

    cells = [
        cell("float", value="12.50"), cell("percentage", value="0.85"), cell("currency", value="9", currency="EUR"),
        cell("date", date_value="2025-03-04"), cell("time", time_value="PT09H30M00S"), cell("boolean", boolean_value="true"),
        cell("string", string_value="berth"), "<table:table-cell/>",
    ]  # fmt: skip
    table = f'<table:table table:name="Plan"><table:table-row>{"".join(cells)}</table:table-row></table:table>'
    text = open_document_text(open_document("spreadsheet", f"<office:spreadsheet>{table}</office:spreadsheet>"))
    assert text.split("\n")[2] == "| 12.5 | 85% | 9 EUR | 2025-03-04 | 9:30 | TRUE | berth |"


def test_a_flat_open_document_is_read_like_an_archive() -> None:
    flat = (
        f'<?xml version="1.0"?>\n<office:document {ODF} office:mimetype="application/vnd.oasis.opendocument.text">'
        "<office:master-styles><style:master-page><style:header><text:p>Harbour Office</text:p></style:header>"
        "</style:master-page></office:master-styles><office:body><office:text><text:h>Rent</text:h>"
        "<draw:frame><draw:image><office:binary-data>QUJD</office:binary-data></draw:image></draw:frame>"
        "<text:p>Dear Sir</text:p></office:text></office:body></office:document>"
    ).encode()
    assert detect_type(flat) == ODT
    assert open_document_text(flat) == "Harbour Office\n\n# Rent\n\nDear Sir"
    with pytest.raises(BrokenArchive):
        open_document_text(flat[:-40])


CHART = (
    "<chart:chart><chart:title><text:p>Rents</text:p></chart:title><table:table><table:table-header-rows>"
    "<table:table-row><table:table-cell/><table:table-cell><text:p>Pier</text:p></table:table-cell></table:table-row>"
    "</table:table-header-rows><table:table-rows><table:table-row><table:table-cell><text:p>May</text:p>"
    "</table:table-cell><table:table-cell><text:p>850</text:p></table:table-cell></table:table-row></table:table-rows>"
    "</table:table></chart:chart>"
)
FORMULA = (
    '<math xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>E</mi><mo>=</mo><mfrac><mn>1</mn><mn>2</mn></mfrac>'
    "</mrow><annotation>E = {1} over {2}</annotation></semantics></math>"
)


def with_object(kind: str, body: str, embedded: str) -> bytes:
    found = open_document(kind, body)
    names = f"{ODF} xmlns:xlink='http://www.w3.org/1999/xlink' xmlns:chart='urn:oasis:chart'"
    with zipfile.ZipFile(io.BytesIO(found)) as whole:
        members = {name: whole.read(name).decode().replace(ODF, names) for name in whole.namelist()}
    return archive({**members, "Object 1/content.xml": embedded and f"<x {names}>{embedded}</x>"})


FRAME = "<draw:frame><draw:object xlink:href='./Object 1'/><draw:image xlink:href='./Replacements/1'/></draw:frame>"


@pytest.mark.parametrize(
    ("embedded", "expected"),
    [
        (CHART, "before\n\nRents\n\n|  | Pier |\n| --- | --- |\n| May | 850 |"),
        (FORMULA, "before\n\nE=1/2"),
        ("", "before"),  # damaged
    ],
)
def test_charts_and_formulas_of_an_open_document_are_read(embedded: str, expected: str) -> None:
    body = f"<office:text><text:p>before{FRAME}</text:p></office:text>"
    assert filled(open_document_text(with_object("text", body, embedded)), {}).strip() == expected


def test_a_chart_in_a_sheet_gives_its_title_because_its_values_are_cells() -> None:
    sheet = (
        "<table:table table:name='S'><table:table-row><table:table-cell><text:p>850</text:p></table:table-cell>"
        f"</table:table-row><table:shapes>{FRAME}</table:shapes></table:table>"
    )
    found = with_object("spreadsheet", f"<office:spreadsheet>{sheet}</office:spreadsheet>", CHART)
    assert open_document_text(found) == "## S\n\n850\n\nRents"


def test_placeholders_of_page_numbers_are_left_out() -> None:
    body = "<office:text><text:p>a<text:page-number>&lt;number&gt;</text:page-number> &lt;b&gt;</text:p></office:text>"
    assert open_document_text(open_document("text", body)) == "a <b>"
