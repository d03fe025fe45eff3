"""A damaged part costs an office document that part, not its text."""

import io
import re
import zipfile

import pytest

from dagster_offload.extraction.formats.hangul.hwpx import hwpx_text
from dagster_offload.extraction.formats.office import docx
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.office.office_xml import excel_2003_text, flat_word_text, word_2003_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import ODF, archive, open_document, paragraph, run, word
from tests.extraction.formats.test_office_variants import document, related
from tests.extraction.formats.test_xlsx import MAIN, workbook

ENCRYPTED = (
    b"MIME-Version: 1.0\r\nSubject: x\r\nContent-Type: multipart/encrypted; boundary=e\r\n\r\n--e\r\n\r\nx\r\n--e--\r\n"
)
DEEP = "<x>" * 5000 + "</x>" * 5000


def inserting(chunk: bytes | None, text: str = "") -> bytes:
    """A document that inserts a part, None for a part that is missing."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        body = (paragraph(run(text)) if text else "") + '<w:altChunk r:id="c"/>'
        new.writestr("word/document.xml", document(body))
        new.writestr("word/_rels/document.xml.rels", related(c=("aFChunk", "chunk.x")))
        if chunk is not None:
            new.writestr("word/chunk.x", chunk)
    return made.getvalue()


@pytest.mark.parametrize("chunk", [None, b"PK\3\4 cut off", ENCRYPTED], ids=["missing", "damaged", "encrypted"])
def test_an_inserted_part_that_cannot_be_read_costs_only_itself(chunk: bytes | None) -> None:
    assert docx_text(inserting(chunk, "Notice")) == "Notice"
    with pytest.raises(BrokenArchive):
        docx_text(inserting(chunk))


def test_documents_are_inserted_into_one_another_up_to_a_limit() -> None:
    data = inserting(b"Berth 4 is free")
    for _ in range(docx._MAX_INSERTED_DEPTH):
        data = inserting(data)
    assert docx_text(data) == "Berth 4 is free"
    assert docx_text(inserting(data, "Notice")) == "Notice"


def flat(*parts: str) -> bytes:
    return f'<p:package xmlns:p="http://schemas.microsoft.com/office/2006/xmlPackage">{"".join(parts)}</p:package>'.encode()


def test_a_damaged_picture_of_a_flat_document_costs_only_itself() -> None:
    text = f'<p:part p:name="/word/document.xml"><p:xmlData>{document(paragraph(run("Notice")))}</p:xmlData></p:part>'
    picture = '<p:part p:name="/word/media/a.png"><p:binaryData>QUJDR</p:binaryData></p:part>'
    assert flat_word_text(flat(picture, text)) == "Notice"


def test_xml_that_is_nested_too_deeply_is_broken() -> None:
    with pytest.raises(BrokenArchive):
        flat_word_text(flat(f'<p:part p:name="/word/document.xml"><p:xmlData>{DEEP}</p:xmlData></p:part>'))
    with pytest.raises(BrokenArchive):
        word_2003_text(f"<wordDocument><styles>{DEEP}</styles></wordDocument>".encode())


def test_a_cell_of_excel_2003_without_a_valid_number_shows_its_text() -> None:
    cells = "".join(f'<Cell><Data Type="Number">{number}</Data></Cell>' for number in ("7", "", "many"))
    book = f'<Workbook><Worksheet Name="Plan"><Table><Row>{cells}</Row></Table></Worksheet></Workbook>'
    assert excel_2003_text(book.encode()).split("\n")[2] == "| 7 | many |"


@pytest.mark.parametrize(
    "damage", ['Index="third"', 'Index=""', 'Index="-4"', f'Index="{"9" * 5000}"', 'MergeAcross="x"']
)
def test_a_damaged_column_number_of_excel_2003_costs_no_cell(damage: str) -> None:
    cells = f"<Cell><Data>a</Data></Cell><Cell {damage}><Data>b</Data></Cell><Cell><Data>c</Data></Cell>"
    book = f'<Workbook><Worksheet Name="Plan"><Table><Row>{cells}</Row></Table></Worksheet></Workbook>'
    assert excel_2003_text(book.encode()).split("\n")[2] == "| a | b | c |"


ODF_BODY = (
    '<text:h text:outline-level="{0}">Rent</text:h><text:p>of<text:s text:c="{0}"/>May</text:p><table:table>'
    '<table:table-row><table:table-cell table:number-columns-repeated="{0}"><text:p>a</text:p></table:table-cell>'
    "<table:table-cell><text:p>b</text:p></table:table-cell></table:table-row></table:table>"
)
DAMAGED_NUMBERS = pytest.mark.parametrize("damage", ["x", "", "-1", "1.5", "9" * 5000])


@DAMAGED_NUMBERS
def test_a_damaged_number_of_an_open_document_costs_no_text(damage: str) -> None:
    assert open_document(ODF_BODY.format(damage)) == "# Rent\n\nof May\n\n| a | b |\n| --- | --- |"


@DAMAGED_NUMBERS
def test_a_damaged_number_of_an_open_sheet_costs_no_cell(damage: str) -> None:
    row = (
        f'<table:table-row table:number-rows-repeated="{damage}"><table:table-cell table:number-columns-repeated="{damage}">'
        "<text:p>a</text:p></table:table-cell><table:table-cell><text:p>b</text:p></table:table-cell></table:table-row>"
    )
    content = (
        f'<office:document-content {ODF}><office:body><office:spreadsheet><table:table table:name="S">{row}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    assert open_document_text(archive({"content.xml": content})) == "## S\n\n| a | b |\n| --- | --- |"


@DAMAGED_NUMBERS
def test_a_damaged_number_of_a_workbook_costs_no_cell(damage: str) -> None:
    styles = f'<styleSheet {MAIN}><cellXfs><xf numFmtId="{damage}"/></cellXfs></styleSheet>'
    cells = f'<row><c s="0"><v>7</v></c><c s="{damage}"><v>8</v></c></row>'
    assert workbook(cells, members={"xl/styles.xml": styles}) == "## Plan\n\n| 7 | 8 |\n| --- | --- |"


@DAMAGED_NUMBERS
def test_a_damaged_number_of_a_list_costs_no_text(damage: str) -> None:
    level = f'<w:lvl w:ilvl="{damage}"><w:start w:val="{damage}"/><w:lvlRestart w:val="{damage}"/></w:lvl>'
    use = '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    numbering = f'<w:abstractNum w:abstractNumId="7">{level}</w:abstractNum>{use}'
    item = f'<w:outlineLvl w:val="{damage}"/><w:numPr><w:ilvl w:val="{damage}"/><w:numId w:val="1"/></w:numPr>'
    assert "Notice" in word(paragraph(run("Notice"), item), numbering=numbering)


@DAMAGED_NUMBERS
def test_a_damaged_number_of_hangul_costs_no_text(damage: str) -> None:
    header = (
        f'<head><paraPr id="0"><heading type="NUMBER" idRef="{damage}" level="{damage}"/></paraPr><numbering id="{damage}">'
        f'<paraHead level="{damage}" start="{damage}">^1.</paraHead></numbering></head>'
    )
    section = f'<sec><x outlineShapeIDRef="{damage}"/><p paraPrIDRef="0"><run><t>Notice</t></run></p></sec>'
    assert "Notice" in hwpx_text(archive({"Contents/header.xml": header, "Contents/section0.xml": section}))


@pytest.mark.parametrize("lost", ["Id", "Type", "Target"])
def test_a_damaged_relationship_of_a_drawing_costs_no_cell(lost: str) -> None:
    link = re.sub(f' {lost}="[^"]*"', "", related(d=("drawing", "../drawings/a.xml")))
    cells = '<row><c t="str"><v>Rent</v></c></row>'
    assert workbook(cells, members={"xl/worksheets/_rels/a.xml.rels": link}) == "## Plan\n\nRent"


def test_a_workbook_whose_sheet_cannot_be_found_is_broken() -> None:
    link = related(s=("worksheet", "worksheets/a.xml"))
    cells = '<row><c t="str"><v>Rent</v></c></row>'
    assert workbook(cells, members={"xl/_rels/workbook.xml.rels": link}) == "## Plan\n\nRent"
    with pytest.raises(BrokenArchive):
        workbook(cells, members={"xl/_rels/workbook.xml.rels": link.replace('Type="', 'Kind="')})
