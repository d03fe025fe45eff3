"""The same Office formats as other programs write them: other names of parts, templates, flat files, XML of 2003."""

import base64
import io
import zipfile
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from dagster_offload.extraction.file_types import DOCX, EXCEL_2003, FLAT_WORD, PPTX, WORD_2003, XLSX
from dagster_offload.extraction.file_types.detection import detect_type, is_old_powerpoint, is_old_word
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.office_xml import excel_2003_text, flat_word_text, word_2003_text
from dagster_offload.extraction.formats.office.xlsx import xlsx_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import OFFICE, WORD, archive, paragraph, run
from tests.extraction.formats.test_xlsx import MAIN

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


FUNNEL = (
    '<x:chartSpace xmlns:x="chartex" xmlns:a="drawing"><x:chartData><x:data id="0"><x:strDim type="cat">'
    '<x:lvl ptCount="3"><x:pt idx="0">calls</x:pt><x:pt idx="1">visits</x:pt><x:pt idx="z">lost</x:pt></x:lvl>'
    '<x:lvl ptCount="3"><x:pt idx="0">spring</x:pt></x:lvl></x:strDim><x:numDim type="val"><x:lvl ptCount="2">'
    '<x:pt idx="0">4.4000000000000004</x:pt><x:pt idx="1">-12</x:pt></x:lvl></x:numDim></x:data></x:chartData>'
    "<x:chart><x:title><x:tx><x:txData><x:v>Sales</x:v></x:txData></x:tx></x:title><x:plotArea><x:plotAreaRegion>"
    '<x:series layoutId="funnel"><x:tx><x:txData><x:f>Plan!$B$1</x:f><x:v>2025</x:v></x:txData></x:tx><x:dataId val="0"/>'
    '</x:series><x:series layoutId="paretoLine"/></x:plotAreaRegion></x:plotArea></x:chart></x:chartSpace>'
)


def test_a_chart_of_office_2016_gives_its_title_and_values() -> None:
    chart = f'<w:r><x:chart xmlns:x="chartex" xmlns:r="{OFFICE}" r:id="c"/></w:r>'
    members = {"word/_rels/document.xml.rels": related(c=("chartEx", "charts/c.xml")), "word/charts/c.xml": FUNNEL}
    assert docx_text(archive({"word/document.xml": document(paragraph(run("Rent") + chart)), **members})) == (
        "Rent\n\nSales\n|  | 2025 |\n| --- | --- |\n| spring, calls | 4.4 |\n| visits | -12 |"
    )


def test_a_chart_that_is_missing_costs_no_document() -> None:
    chart = f'<w:r><c:chart xmlns:c="chart" xmlns:r="{OFFICE}" r:id="c"/></w:r>'
    members = {"word/_rels/document.xml.rels": related(c=("chart", "gone.xml"))}
    assert docx_text(archive({"word/document.xml": document(paragraph(run("Rent") + chart)), **members})) == "Rent"


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


EXCEL = (
    '<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"><Worksheet Name="Rent"><Table><Row><Cell><Data Type="String">'
    "{}</Data></Cell></Row></Table></Worksheet></Workbook>"
)


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("EUC-KR", "cp949", "선석 사용료 똠"),
        ("ks_c_5601-1987", "cp949", "선석 사용료"),
        ("Shift_JIS", "cp932", "会議の議事録①"),
        ("GBK", "gbk", "会议记录"),
        ("Big5", "big5", "會議紀錄"),
        ("unknown-8", "utf-8", "선석 사용료"),
        ("utf-16", "utf-8", "선석 사용료"),  # of a program that has decoded and encoded it again
        ("utf-8", "utf-16", "선석 사용료"),
    ],
)
@pytest.mark.parametrize("fault", ["", "&excl;\x01"])
def test_xml_in_an_encoding_that_its_parser_does_not_know_is_read(
    declared: str, encoding: str, text: str, fault: str
) -> None:
    page = EXCEL.format(text + fault)
    data = f'<?xml version="1.0" encoding="{declared}" standalone="yes"?>\n{page}'.encode(encoding)
    assert excel_2003_text(data) == f"## Rent\n\n{text}{'!' if fault else ''}"


def test_xml_that_is_damaged_stays_broken_in_any_encoding() -> None:
    for declared in ("EUC-KR", "UTF-8", "utf-16", "none"):
        with pytest.raises(BrokenArchive):
            excel_2003_text(f'<?xml version="1.0" encoding="{declared}"?><Workbook><Worksheet>'.encode())
