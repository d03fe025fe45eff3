"""Word, PowerPoint and OpenDocument files made element by element: what our readers keep."""

import io
import zipfile

import pytest

from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.office.pptx import pptx_text
from dagster_offload.extraction.formats.parts.markdown import table_text
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
ODF = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "text", "table", "draw")
)


def archive(members: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return made.getvalue()


def word(body: str, **members: str) -> str:
    named = {f"word/{name}.xml": f"<w:{name} {WORD}>{content}</w:{name}>" for name, content in members.items()}
    document = f"<w:document {WORD}><w:body>{body}</w:body></w:document>"
    return docx_text(archive({"word/document.xml": document, **named}))


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def paragraph(inner: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def open_document(body: str) -> str:
    content = f"<office:document-content {ODF}><office:body><office:text>{body}</office:text></office:body>"
    return open_document_text(archive({"content.xml": content + "</office:document-content>"}))


def test_tabs_and_line_breaks_separate_words() -> None:
    assert (
        word(paragraph(run("성명:") + "<w:r><w:tab/><w:t>홍길동</w:t><w:br/><w:t>1980</w:t></w:r>"))
        == "성명:\t홍길동\n1980"
    )
    assert (
        open_document('<text:p>성명:<text:tab/>홍<text:s text:c="2"/>길<text:line-break/>동</text:p>')
        == "성명:\t홍  길\n동"
    )


def test_a_text_box_follows_its_paragraph_and_is_read_once() -> None:
    box = f"<w:txbxContent>{paragraph(run('in the box'))}</w:txbxContent>"
    both = f"<w:r><w:Choice>{box}</w:Choice><w:Fallback>{box}</w:Fallback></w:r>"
    assert word(paragraph(run("before ") + both + run("after"))) == "before after\n\nin the box"
    title = '<w:pStyle w:val="T"/>'
    styles = '<w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style>'
    titled = f"<w:r><w:txbxContent>{paragraph(run('Title'), title)}</w:txbxContent></w:r>"
    assert word(paragraph(run("plain") + titled), styles=styles) == "plain\n\n# Title"
    boxed = "<draw:frame><draw:text-box><text:p>in the box</text:p></draw:text-box></draw:frame>"
    assert open_document(f"<text:p>before {boxed}after</text:p>") == "before after\n\nin the box"


def test_tracked_deletions_are_left_out_and_insertions_are_kept() -> None:
    changed = f"<w:ins>{run('new')}</w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
    assert word(paragraph(run("a ") + changed)) == "a new"
    tracked = "<text:tracked-changes><text:p>old</text:p></text:tracked-changes>"
    assert open_document(f"{tracked}<text:p>a new</text:p>") == "a new"


def test_comments_are_left_out_and_the_words_that_they_are_about_are_kept() -> None:
    about = '<w:commentRangeStart w:id="1"/>{}<w:commentRangeEnd w:id="1"/><w:r><w:commentReference w:id="1"/></w:r>'
    comments = f'<w:comment w:id="1">{paragraph(run("a comment"))}</w:comment>'
    assert word(paragraph(run("a ") + about.format(run("word"))), comments=comments) == "a word"
    comment = "<office:annotation><text:p>a comment</text:p></office:annotation>"
    assert open_document(f"<text:p>a {comment}word<office:annotation-end/></text:p>") == "a word"
    on_a_cell = f'<table:table-cell office:value-type="string">{comment}<text:p>a cell</text:p></table:table-cell>'
    assert "a comment" not in spreadsheet(f"<table:table-row>{on_a_cell}</table:table-row>")


def hidden_run(text: str, properties: str = "<w:vanish/>") -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


def test_hidden_text_is_left_out() -> None:
    shown = hidden_run(" berth 4", '<w:vanish w:val="0"/>') + hidden_run(
        " 12", "<w:webHidden/>"
    )  # a page number is printed
    assert word(paragraph(run("Rent of") + hidden_run(" TC field") + shown)) == "Rent of berth 4 12"
    assert word(paragraph(f"<w:ins>{hidden_run('hidden')}</w:ins>") + paragraph(run("Shown"))) == "Shown"


def test_text_that_a_style_hides_is_left_out() -> None:
    styles = (
        '<w:style w:type="paragraph" w:styleId="Form"><w:rPr><w:vanish/></w:rPr></w:style>'
        '<w:style w:type="paragraph" w:styleId="Base"><w:basedOn w:val="Form"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Again"><w:basedOn w:val="Form"/><w:rPr><w:vanish w:val="0"/></w:rPr></w:style>'
        '<w:style w:type="character" w:styleId="Aside"><w:rPr><w:vanish/></w:rPr></w:style>'
        '<w:style w:type="paragraph" w:styleId="Loop"><w:basedOn w:val="Loop"/></w:style>'
    )
    body = "".join(
        paragraph(run(name), f'<w:pStyle w:val="{name}"/>') for name in ("Form", "Base", "Again", "Loop", "Unknown")
    ) + paragraph(run("Open") + hidden_run(" aside", '<w:rStyle w:val="Aside"/>'))
    assert word(body, styles=styles) == "Again\n\nLoop\n\nUnknown\n\nOpen"


def test_headings_follow_from_styles_and_their_base_styles() -> None:
    styles = (
        '<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>'
        '</w:style><w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="H2"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="A"><w:basedOn w:val="B"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="B"><w:basedOn w:val="A"/></w:style>'
    )
    body = paragraph(run("Rent"), '<w:pStyle w:val="Mine"/>') + paragraph(run("text"), '<w:pStyle w:val="A"/>')
    assert word(body, styles=styles) == "## Rent\n\ntext"
    assert open_document('<text:h text:outline-level="3">Rent</text:h>') == "### Rent"


def test_paragraph_numbers_are_as_word_shows_them() -> None:
    def level(number: int, look: str, text: str) -> str:
        return f'<w:lvl w:ilvl="{number}"><w:numFmt w:val="{look}"/><w:lvlText w:val="{text}"/></w:lvl>'

    numbering = (
        f'<w:abstractNum w:abstractNumId="7">{level(0, "decimal", "제%1조")}{level(1, "ganada", "%2)")}'
        f'{level(2, "bullet", "x")}</w:abstractNum><w:num w:numId="3"><w:abstractNumId w:val="7"/></w:num>'
    )

    def item(text: str, depth: int) -> str:
        return paragraph(run(text), f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="3"/></w:numPr>')

    body = item("목적", 0) + item("하나", 1) + item("둘", 1) + item("점", 2) + item("기간", 0) + item("하나", 1)
    assert word(body, numbering=numbering).split("\n\n") == [
        "제1조 목적", "가) 하나", "나) 둘", "- 점", "제2조 기간", "가) 하나",
    ]  # fmt: skip


def test_notes_follow_their_paragraph_in_brackets() -> None:
    notes = f'<w:footnote w:id="2">{paragraph(run("see chapter nine"))}</w:footnote>'
    body = paragraph(run("Signed") + '<w:r><w:footnoteReference w:id="2"/></w:r>' + run(" today"))
    assert word(body, footnotes=notes) == "Signed today\n\n[see chapter nine]"
    body = "<text:note-body><text:p>see nine</text:p></text:note-body>"
    note = f"<text:note><text:note-citation>1</text:note-citation>{body}</text:note>"
    assert open_document(f"<text:p>Signed{note} today</text:p>") == "Signed today\n\n[see nine]"


def test_the_letterhead_is_read_once_and_page_numbers_are_not() -> None:
    document = f"<w:document {WORD}><w:body>{paragraph(run('Dear Sir'))}</w:body></w:document>"
    parts = {"header1": "Harbour Office", "header2": "Harbour Office", "footer1": "12"}
    related = "".join(f'<Relationship Id="{name}" Type="{OFFICE}/{name[:6]}" Target="{name}.xml"/>' for name in parts)
    members = {f"word/{name}.xml": f"<w:hdr {WORD}>{paragraph(run(text))}</w:hdr>" for name, text in parts.items()}
    relations = {"word/_rels/document.xml.rels": f"<Relationships>{related}</Relationships>"}
    assert docx_text(archive({"word/document.xml": document, **relations, **members})) == "Harbour Office\n\nDear Sir"


def test_a_nested_table_stays_in_its_cell_and_bars_in_text_are_escaped() -> None:
    def table(*rows: list[str]) -> str:
        cells = ("".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows)
        return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"

    inner = table([paragraph(run("b")), paragraph(run("c"))])
    outer = table([paragraph(run("a")) + inner, paragraph(run("x|y"))], [paragraph(run("d")), paragraph("")])
    assert word(outer) == "| a b, c | x\\|y |\n| --- | --- |\n| d |  |"


def test_nested_lists_are_indented() -> None:
    inner = "<text:list><text:list-item><text:p>b</text:p></text:list-item></text:list>"
    items = (
        f"<text:list-item><text:p>a</text:p>{inner}</text:list-item><text:list-item><text:p>c</text:p></text:list-item>"
    )
    assert open_document(f"<text:list>{items}</text:list>") == "- a\n  - b\n- c"


def test_an_empty_table_gives_no_text() -> None:
    assert table_text([["", " "], ["", ""]]) == ""


@pytest.mark.parametrize("read", [docx_text, pptx_text, open_document_text])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(40), archive({"other.xml": "<a/>"})])
def test_other_data_is_refused_as_a_broken_archive(read: object, data: bytes) -> None:
    assert callable(read)
    with pytest.raises(BrokenArchive):
        read(data)


DRAWING = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
SLIDES = f'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" {DRAWING} xmlns:r="{OFFICE}"'
CHART = f'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" {DRAWING}'


def shape(kind: str, text: str) -> str:
    return f'<p:sp><p:ph type="{kind}"/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sp>'


def related(**targets: tuple[str, str]) -> str:
    """Relationships by id, from types and target members."""
    one = '<Relationship Id="{}" Type="{}/{}" Target="{}"/>'
    return f"<Relationships>{''.join(one.format(name, OFFICE, *target) for name, target in targets.items())}</Relationships>"


def deck(slides: dict[str, str], behind_the_list: str = "", **members: str) -> str:
    """The text of a presentation that shows these slides in this order."""
    listed = "".join(f'<p:sldId id="25{index}" r:id="{name}"/>' for index, name in enumerate(slides))
    presentation = f"<p:presentation {SLIDES}><p:sldIdLst>{listed}</p:sldIdLst>{behind_the_list}</p:presentation>"
    return pptx_text(
        archive(
            {
                "ppt/presentation.xml": presentation,
                "ppt/_rels/presentation.xml.rels": related(**{n: ("slide", f"slides/{n}.xml") for n in slides}),
                **{f"ppt/slides/{name}.xml": f"<p:sld {SLIDES}>{body}</p:sld>" for name, body in slides.items()},
                **members,
            }
        )
    )


def test_slides_are_read_in_order_with_titles_and_without_page_numbers() -> None:
    slides = {"b": shape("title", "First"), "a": shape("body", "second") + shape("sldNum", "2")}
    assert deck(slides) == "## First\n\nsecond"


def test_a_deck_with_sections_is_read_like_one_without() -> None:
    section = (
        '<p:extLst><p:ext uri="x"><p14:sectionLst xmlns:p14="http://schemas.microsoft.com/office/powerpoint/2010/main">'
        '<p14:section name="s"><p14:sldIdLst><p14:sldId id="250"/></p14:sldIdLst></p14:section></p14:sectionLst>'
        "</p:ext></p:extLst>"
    )
    assert deck({"a": shape("title", "Boiler")}, section) == "## Boiler"


def test_each_different_footer_of_a_deck_is_read_once() -> None:
    slides = {name: shape("body", name) + shape("ftr", "Draft, not for print") for name in ("a", "b")}
    assert deck(slides) == "a\n\nb\n\nDraft, not for print"


def chart() -> str:
    def points(*texts: str) -> str:
        return "".join(f'<c:pt idx="{index}"><c:v>{text}</c:v></c:pt>' for index, text in enumerate(texts) if text)

    def series(name: str, *values: str) -> str:
        categories = f"<c:cat><c:strCache>{points('spring', 'autumn')}</c:strCache></c:cat>"
        return f"<c:ser><c:tx>{points(name)}</c:tx>{categories}<c:val>{points(*values)}</c:val></c:ser>"

    title = "<c:title><a:p><a:r><a:t>Ducks</a:t></a:r></a:p></c:title>"
    return f"<c:chart {CHART}>{title}{series('pond', '12', '15')}{series('lake', '', '7')}</c:chart>"


DUCKS = "Ducks\n|  | pond | lake |\n| --- | --- | --- |\n| spring | 12 |  |\n| autumn | 15 | 7 |"


def test_a_chart_on_a_slide_gives_its_title_and_values() -> None:
    relations = {"ppt/slides/_rels/a.xml.rels": related(c=("chart", "../charts/c.xml")), "ppt/charts/c.xml": chart()}
    assert deck({"a": shape("title", "Survey")}, **relations) == f"## Survey\n\n{DUCKS}"


def test_a_chart_in_a_document_follows_its_paragraph() -> None:
    drawing = f'<w:r><c:chart {CHART} xmlns:r="{OFFICE}" r:id="c"/></w:r>'
    body = paragraph(run("before") + drawing) + paragraph(run("after"))
    document = f"<w:document {WORD}><w:body>{body}</w:body></w:document>"
    relations = {"word/_rels/document.xml.rels": related(c=("chart", "charts/c.xml")), "word/charts/c.xml": chart()}
    assert docx_text(archive({"word/document.xml": document, **relations})) == f"before\n\n{DUCKS}\n\nafter"


def spreadsheet(rows: str) -> str:
    body = f'<office:spreadsheet><table:table table:name="Plan">{rows}</table:table></office:spreadsheet>'
    content = f"<office:document-content {ODF}><office:body>{body}</office:body></office:document-content>"
    return open_document_text(archive({"content.xml": content}))


def cell(text: str, repeated: int = 1) -> str:
    return f'<table:table-cell table:number-columns-repeated="{repeated}"><text:p>{text}</text:p></table:table-cell>'


def test_a_sheet_gives_only_its_used_cells_as_displayed() -> None:
    gap = '<table:table-cell table:number-columns-repeated="16000"/>'
    rows = (
        f"<table:table-row>{cell('시작')}{cell('참석률')}{gap}</table:table-row>"
        f'<table:table-row table:number-rows-repeated="100000">{gap}</table:table-row>'
        f"<table:table-row>{cell('9:30')}{cell('85%')}{gap}{cell('far')}</table:table-row>"
    )
    assert spreadsheet(rows) == "## Plan\n\n| 시작 | 참석률 |  |\n| --- | --- | --- |\n| 9:30 | 85% | far |"


def test_repeated_cells_and_rows_are_written_as_often_as_displayed() -> None:
    rows = f'<table:table-row table:number-rows-repeated="2">{cell("x", 2)}{cell("y")}</table:table-row>'
    assert spreadsheet(rows) == "## Plan\n\n| x | x | y |\n| --- | --- | --- |\n| x | x | y |"


def test_a_table_in_a_cell_of_an_open_document_is_read_once() -> None:
    def table(*cells: str) -> str:
        row = "".join(f"<table:table-cell>{cell}</table:table-cell>" for cell in cells)
        return f"<table:table><table:table-row>{row}</table:table-row></table:table>"

    inner = table("<text:p>in 1</text:p>", "<text:p>in 2</text:p>")
    outer = table(f"<text:p>out 1</text:p>{inner}", "<text:p>out 2</text:p>")
    assert open_document(outer) == "| out 1 in 1, in 2 | out 2 |\n| --- | --- |"


def test_hidden_text_of_an_open_document_is_left_out() -> None:
    style = '<style:style style:name="T2"><style:text-properties text:display="none"/></style:style>'
    body = (
        '<text:p>shown <text:span text:style-name="T2">hidden</text:span>also</text:p>'
        '<text:section text:display="none"><text:p>hidden</text:p></text:section>'
        '<text:section text:display="condition" text:is-hidden="true"><text:p>hidden</text:p></text:section>'
        '<text:section text:display="condition" text:is-hidden="false"><text:p>open</text:p></text:section>'
        '<text:p>hidden<text:hidden-paragraph text:is-hidden="true"/></text:p>'
        '<text:p>and<text:hidden-paragraph text:is-hidden="false"/> free</text:p>'
        '<text:p text:style-name="T2">hidden</text:p><text:h text:style-name="T2">hidden</text:h>'
    )
    content = (
        f'<office:document-content {ODF} xmlns:style="urn:oasis:style"><office:automatic-styles>{style}'
        f"</office:automatic-styles><office:body><office:text>{body}</office:text></office:body>"
    )
    assert open_document_text(archive({"content.xml": content + "</office:document-content>"})) == (
        "shown also\n\nopen\n\nand free"
    )


def test_a_list_in_a_list_of_an_open_document_has_one_sign() -> None:
    inner = "<text:list><text:list-item><text:p>two</text:p></text:list-item></text:list>"
    assert open_document(f"<text:list><text:list-item>{inner}</text:list-item></text:list>") == "  - two"
