"""The same Office formats as other programs write them: other names of parts, templates, flat files, XML of 2003."""

import base64
import io
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from dagster_offload.extraction.file_types import DOCX, EXCEL_2003, FLAT_WORD, ODG, ODS, ODT, PPTX, WORD_2003, XLSX
from dagster_offload.extraction.file_types.detection import detect_type, is_old_powerpoint, is_old_word
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.office.office_xml import excel_2003_text, flat_word_text, word_2003_text
from dagster_offload.extraction.formats.office.xlsx import xlsx_text
from dagster_offload.extraction.formats.parts.picture_marks import filled
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import OFFICE, WORD, archive, paragraph, run
from tests.extraction.formats.test_xlsx import MAIN

ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for name in ("office", "text", "table", "draw", "style", "presentation")
)
DIAGRAM = (
    '<d:dataModel xmlns:d="diagram" xmlns:a="drawing"><d:ptLst><d:pt><d:t><a:p><a:r><a:t>Plan the pier</a:t></a:r></a:p></d:t>'
    "</d:pt></d:ptLst></d:dataModel>"
)


def related(**links: tuple[str, str]) -> str:
    one = '<Relationship Id="{}" Type="{}/{}" Target="{}"/>'
    return f"<Relationships>{''.join(one.format(name, OFFICE, *link) for name, link in links.items())}</Relationships>"


def document(body: str) -> str:
    return f'<w:document {WORD} xmlns:r="{OFFICE}"><w:body>{body}</w:body></w:document>'


def types(main: str) -> str:
    return f'<Types><Override PartName="/x" ContentType="application/vnd.openxmlformats-officedocument.{main}+xml"/></Types>'


def test_parts_with_other_names_than_usual_are_found_by_their_relationships() -> None:
    styles = f'<w:styles {WORD}><w:style w:type="paragraph" w:styleId="H"><w:name w:val="Title"/></w:style></w:styles>'
    data = archive(
        {
            "[Content_Types].xml": types("wordprocessingml.document.main"),
            "_rels/.rels": related(a=("officeDocument", "/word/document2.xml")),
            "word/document2.xml": document(
                paragraph(run("Harbour rules"), '<w:pStyle w:val="H"/>')
                + paragraph(run("Moor") + '<w:r><w:footnoteReference w:id="1"/></w:r>')
            ),
            "word/_rels/document2.xml.rels": related(s=("styles", "styles2.xml"), n=("footnotes", "notes.xml")),
            "word/styles2.xml": styles,
            "word/notes.xml": f'<w:footnotes {WORD}><w:footnote w:id="1">{paragraph(run("with two lines"))}</w:footnote>'
            "</w:footnotes>",
        }
    )
    assert detect_type(data) == DOCX
    assert docx_text(data) == "# Harbour rules\n\nMoor\n\n[with two lines]"


def test_a_damaged_list_of_main_parts_costs_no_document() -> None:
    members = {"_rels/.rels": "<Relationships><Relat", "word/document.xml": document(paragraph(run("Dear Sir")))}
    assert docx_text(archive(members)) == "Dear Sir"


@pytest.mark.parametrize(
    ("main", "kind"),
    [
        ("wordprocessingml.template.main", DOCX),
        ("spreadsheetml.template.main", XLSX),
        ("presentationml.slideshow.main", PPTX),
    ],
)
def test_a_template_is_recognized_by_its_content_type(main: str, kind: str) -> None:
    assert detect_type(archive({"[Content_Types].xml": types(main), "x": "<x/>"})) == kind
    assert detect_type(archive({"[Content_Types].xml": types("drawing"), "x": "<x/>"})) is None


@pytest.mark.parametrize("spelled", [str.upper, lambda name: name.replace("/", "\\"), str])
def test_members_are_found_in_other_capitals_and_with_backslashes(spelled: Callable[[str], str]) -> None:
    sheet = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="d"><v>2025-03-04T00:00:00</v></c></row>'
    data = archive(
        {
            "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets><sheet name="Plan" r:id="s"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": related(
                s=("worksheet", "Worksheets/A.xml"), t=("sharedStrings", "Strings.xml")
            ),
            spelled("xl/worksheets/a.xml"): f"<worksheet {MAIN}><sheetData>{sheet}</sheetData></worksheet>",
            spelled("xl/strings.xml"): f"<sst {MAIN}><si><t>Berth</t></si></sst>",
        }
    )
    assert xlsx_text(data) == "## Plan\n\n| Berth | 2025-03-04 |\n| --- | --- |"


def web_page() -> bytes:
    mail = EmailMessage()
    mail.set_content("<html><body><p>Berth 4 is free</p></body></html>", subtype="html")
    return bytes(mail)


@pytest.mark.parametrize(
    "content",
    [
        b"<html><head><title>x</title></head><body><p>Berth 4 is free</p></body></html>",
        b"<p>Berth 4 is free</p>",
        web_page(),
        rb"{\rtf1 Berth 4 is free}",
        b"Berth 4 is free",
        archive({"word/document.xml": document(paragraph(run("Berth 4 is free")))}),
    ],
    ids=["html", "piece of html", "saved web page", "rtf", "text", "docx"],
)
def test_what_a_program_inserted_without_converting_it_is_read(content: bytes) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        new.writestr("word/document.xml", document(paragraph(run("Notice")) + '<w:altChunk r:id="c"/>'))
        new.writestr("word/_rels/document.xml.rels", related(c=("aFChunk", "chunk.x")))
        new.writestr("word/chunk.x", content)
    assert docx_text(made.getvalue()).split("\n\n") == ["Notice", "Berth 4 is free"]


def test_a_document_that_inserts_itself_is_broken() -> None:
    inner = archive({"word/document.xml": document("")})
    for _ in range(300):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as new:
            new.writestr("word/document.xml", document('<w:altChunk r:id="c"/>'))
            new.writestr("word/_rels/document.xml.rels", related(c=("aFChunk", "chunk.docx")))
            new.writestr("word/chunk.docx", inner)
        inner = made.getvalue()
    with pytest.raises(BrokenArchive):
        docx_text(inner)


def test_smart_art_is_read_in_documents_and_on_sheets() -> None:
    drawing = f'<w:r><w:drawing><d:relIds xmlns:d="diagram" xmlns:r="{OFFICE}" r:dm="d"/></w:drawing></w:r>'
    members = {"word/_rels/document.xml.rels": related(d=("diagramData", "data1.xml")), "word/data1.xml": DIAGRAM}
    text = docx_text(archive({"word/document.xml": document(paragraph(run("Steps") + drawing)), **members}))
    assert text == "Steps\n\nPlan the pier"
    sheet = {
        "xl/workbook.xml": f'<workbook {MAIN} xmlns:r="{OFFICE}"><sheets><sheet name="Plan" r:id="s"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": related(s=("worksheet", "sheet.xml")),
        "xl/sheet.xml": f"<worksheet {MAIN}/>",
        "xl/_rels/sheet.xml.rels": related(d=("drawing", "drawing.xml")),
        "xl/drawing.xml": "<wsDr/>",
        "xl/_rels/drawing.xml.rels": related(d=("diagramData", "data.xml")),
        "xl/data.xml": DIAGRAM,
    }
    assert xlsx_text(archive(sheet)) == "## Plan\n\nPlan the pier"


def test_values_of_old_form_fields_are_read() -> None:
    def field(control: str) -> str:
        return f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData>{control}</w:ffData></w:fldChar></w:r>'

    ticked = field('<w:checkBox><w:default w:val="0"/><w:checked/></w:checkBox>')
    empty = field('<w:checkBox><w:default w:val="1"/><w:checked w:val="0"/></w:checkBox>')
    chosen = field('<w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/><w:listEntry w:val="blue"/></w:ddList>')
    body = paragraph(ticked + run("dog ") + empty + run("cat, ") + chosen)
    assert docx_text(archive({"word/document.xml": document(body)})) == "[x] dog [ ] cat, blue"


def test_a_chart_that_is_missing_costs_no_document() -> None:
    chart = f'<w:r><c:chart xmlns:c="chart" xmlns:r="{OFFICE}" r:id="c"/></w:r>'
    members = {"word/_rels/document.xml.rels": related(c=("chart", "gone.xml"))}
    assert docx_text(archive({"word/document.xml": document(paragraph(run("Rent") + chart)), **members})) == "Rent"


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


def test_a_document_of_word_2003_is_read() -> None:
    body = (
        '<w:p><w:pPr><w:pStyle w:val="H"/></w:pPr><w:r><w:t>Rent</w:t></w:r></w:p><w:p><w:r><w:t>Dear </w:t></w:r>'
        "<w:r><w:pict><w:binData>QUJD</w:binData></w:pict><w:t>Sir</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>a</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>b</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    data = (
        '<?xml version="1.0" standalone="yes"?>\n<?mso-application progid="Word.Document"?>\n'
        '<w:wordDocument xmlns:w="http://schemas.microsoft.com/office/word/2003/wordml">'
        '<w:styles><w:style w:type="paragraph" w:styleId="H"><w:name w:val="Title"/></w:style></w:styles>'
        f"<w:body>{body}</w:body></w:wordDocument>"
    ).encode()
    assert detect_type(data) == WORD_2003
    assert word_2003_text(data) == "# Rent\n\nDear Sir\n\n| a | b |\n| --- | --- |"
    with pytest.raises(BrokenArchive):
        word_2003_text(data[:-9])


def test_a_word_document_in_one_xml_file_is_read() -> None:
    def part(name: str, content: str) -> str:
        return f'<pkg:part pkg:name="{name}"><pkg:xmlData>{content}</pkg:xmlData></pkg:part>'

    data = (
        '<?xml version="1.0"?><?mso-application progid="Word.Document"?>'
        '<pkg:package xmlns:pkg="http://schemas.microsoft.com/office/2006/xmlPackage">'
        + part("/word/document.xml", document(paragraph(run("Dear Sir"))))
        + f'<pkg:part pkg:name="/word/media/a.png"><pkg:binaryData>{base64.b64encode(b"x").decode()}</pkg:binaryData></pkg:part>'
        "</pkg:package>"
    ).encode()
    assert detect_type(data) == FLAT_WORD
    assert flat_word_text(data) == "Dear Sir"


def test_a_workbook_of_excel_2003_shows_values_as_a_person_sees_them() -> None:
    def cell(kind: str, value: str, attributes: str = "") -> str:
        return f'<Cell {attributes}><Data ss:Type="{kind}">{value}</Data></Cell>'

    percent, moment = (
        cell("Number", "0.85", 'ss:StyleID="p"'),
        cell("DateTime", "1899-12-31T09:30:00.000", 'ss:Index="3"'),
    )
    rows = (
        f"<Row>{cell('String', 'Berth')}{percent}</Row><Row>{cell('DateTime', '2025-03-04T00:00:00.000')}{moment}</Row>"
    )
    data = (
        '<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>\n<Workbook '
        'xmlns="urn:schemas-microsoft-com:office:spreadsheet" xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">'
        '<Styles><Style ss:ID="p"><NumberFormat ss:Format="Percent"/></Style></Styles>'
        f'<Worksheet ss:Name="Plan"><Table>{rows}</Table></Worksheet></Workbook>'
    ).encode()
    assert detect_type(data) == EXCEL_2003
    assert excel_2003_text(data).split("\n") == [
        "## Plan", "", "| Berth | 85% |  |", "| --- | --- | --- |", "| 2025-03-04 |  | 9:30 |",
    ]  # fmt: skip
    with pytest.raises(BrokenArchive):
        excel_2003_text(data[:-9])


def test_word_2_and_older_are_told_from_word_6() -> None:
    assert is_old_word(b"\xdb\xa5\x2d\0" + bytes(100))
    assert is_old_word(b"\x31\xbe\0\0\0\xab" + bytes(100))
    assert is_old_powerpoint(b"\xed\xde\xad\x0b\3\0" + bytes(100))
    assert not is_old_word(b"\xdc\xa5\x65\0" + bytes(100))


CHART = (
    "<chart:chart><chart:title><text:p>Rents</text:p></chart:title><table:table><table:table-header-rows>"
    "<table:table-row><table:table-cell/><table:table-cell><text:p>Pier</text:p></table:table-cell></table:table-row>"
    "</table:table-header-rows><table:table-rows><table:table-row><table:table-cell><text:p>May</text:p>"
    "</table:table-cell><table:table-cell><text:p>850</text:p></table:table-cell></table:table-row></table:table-rows>"
    "</table:table></chart:chart>"
)
FORMULA = (
    "<math><semantics><mrow><mi>E</mi><mo>=</mo><mi>m</mi></mrow><annotation>E = m</annotation></semantics></math>"
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
        (FORMULA, "before\n\nE = m"),
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
