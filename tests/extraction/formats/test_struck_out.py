"""Text that is struck out no longer holds: every format writes it as Markdown does."""

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.parts.line_marks import not_struck, raised, shown_line, struck
from dagster_offload.extraction.formats.rtf import rtf_text
from tests.extraction.formats.test_office import ODF, archive, deck, paragraph, run, word
from tests.extraction.formats.test_xlsx import MAIN, workbook


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"Rent {struck('500')} 400", "Rent ~~500~~ 400"),
        (f"Rent{struck(' 500 ')}400", "Rent ~~500~~ 400"),
        (struck("is ") + struck("not") + " due", "~~is not~~ due"),
        (f"{struck('is')} {struck('not')} due", "~~is not~~ due"),
        (f"a{struck(' ')}b", "a b"),
        (struck("one\n two"), "~~one~~\n ~~two~~"),
        (struck("10") + struck(raised("6")), "~~10⁶~~"),
        (struck("10") + raised(struck("6")), "~~10⁶~~"),
        (struck(f"is {struck('not')} due"), "~~is not due~~"),
        (struck(f"due {not_struck('in')} May"), "~~due~~ in ~~May~~"),
        (f"due {not_struck('in')} May", "due in May"),
        (struck(""), ""),
        ("~~~~ 5", "~~~~ 5"),
    ],
)
def test_words_are_struck_out_without_the_blanks_around_them(line: str, shown: str) -> None:
    assert shown_line(line) == shown


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>Rent <del>500</del> <s>and <b>fees</b></s> 400</p>", "Rent ~~500 and fees~~ 400"),
        (
            "<p>Rent <span style='color:red;text-decoration: underline line-through'>500 </span>400</p>",
            "Rent ~~500~~ 400",
        ),
        ("<p>Rent <span style='text-decoration:underline; x:line-through'>500</span></p>", "Rent 500"),
        ("<strike><p>one</p><ul><li>two</ul></strike>three", "~~one~~\n\n- ~~two~~\n\nthree"),
        ("<pre><del>a  b</del></pre>", "~~a  b~~"),
        ("<s>10<sup>6</sup> m<sup>2</sup></s>", "~~10⁶ m2~~"),
        ("<table><tr><td><s>1</s><td>2</table>", "| ~~1~~ | 2 |\n| --- | --- |"),
    ],
)
def test_a_page_keeps_what_is_struck_out_apart(page: str, text: str) -> None:
    assert html_text(page) == text


def struck_run(text: str, how: str) -> str:
    return f"<w:r><w:rPr>{how}</w:rPr><w:t>{text}</w:t></w:r>"


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        ("<w:strike/>", "Rent ~~500~~400"),
        ('<w:dstrike w:val="true"/>', "Rent ~~500~~400"),
        ('<w:strike w:val="0"/>', "Rent 500400"),
        ('<w:strike/><w:vertAlign w:val="superscript"/>', "Rent ~~500~~400"),
    ],
)
def test_a_word_document_keeps_what_is_struck_out_apart(how: str, shown: str) -> None:
    assert word(paragraph(run("Rent ") + struck_run("5", how) + struck_run("00", how) + run("400"))) == shown


@pytest.mark.parametrize(("how", "shown"), [("sngStrike", "~~5~~6"), ("dblStrike", "~~5~~6"), ("noStrike", "56")])
def test_a_slide_keeps_what_is_struck_out_apart(how: str, shown: str) -> None:
    drawn = f'<a:r><a:rPr strike="{how}"/><a:t>5</a:t></a:r><a:r><a:t>6</a:t></a:r>'
    assert deck({"a": f"<p:sp><a:p>{drawn}</a:p></p:sp>"}) == shown


def open_text(body: str, **lines: str) -> str:
    """The text of an open document. `lines`: the line through the letters of each style."""
    styles = "".join(
        f'<style:style style:name="{name}"><style:text-properties style:text-line-through-style="{line}"/></style:style>'
        for name, line in lines.items()
    )
    content = (
        f'<office:document-content {ODF} xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0">'
        f"<office:automatic-styles>{styles}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    return open_document_text(archive({"content.xml": content}))


@pytest.mark.parametrize(("how", "shown"), [("solid", "~~5~~"), ("none", "5")])
def test_an_open_document_keeps_what_is_struck_out_apart(how: str, shown: str) -> None:
    body = (
        '<text:p>Rent <text:span text:style-name="T1">5</text:span> 6</text:p><text:p text:style-name="T1">5</text:p>'
        '<text:p text:style-name="T1"><text:span>5</text:span></text:p>'
    )
    assert open_text(body, T1=how) == f"Rent {shown} 6\n\n{shown}\n\n{shown}"


def test_a_span_of_an_open_document_counts_before_its_paragraph() -> None:
    body = (
        '<text:p text:style-name="T1">not <text:span text:style-name="T1">500</text:span> but '
        '<text:span text:style-name="T2">400</text:span> is due</text:p>'
    )
    assert open_text(body, T1="solid", T2="none") == "~~not 500 but~~ 400 ~~is due~~"


def test_rtf_keeps_what_is_struck_out_apart() -> None:
    assert rtf_text(rb"{\rtf1 Rent {\strike 500} 400\striked1  not\striked0  due \strike 7\plain 8}") == (
        "Rent ~~500~~ 400 ~~not~~ due ~~7~~8"
    )
    assert rtf_text(rb"{\rtf1\strike 2{\field{\*\fldinst EQ \\f(1,2)}}}") == "~~2~~1/2"


def test_a_workbook_keeps_what_is_struck_out_apart() -> None:
    styles = (
        f'<styleSheet {MAIN}><fonts><font/><font><strike/></font><font><strike val="0"/></font></fonts>'
        '<cellXfs><xf numFmtId="0" fontId="0"/><xf fontId="1"/><xf fontId="2"/></cellXfs></styleSheet>'
    )
    rich = "<is><r><t>Rent </t></r><r><rPr><strike/></rPr><t>5</t></r></is>"
    cells = f'<row><c s="1"><v>500</v></c><c s="2"><v>400</v></c><c t="inlineStr">{rich}</c><c s="1"/></row>'
    assert workbook(cells, members={"xl/styles.xml": styles}) == (
        "## Plan\n\n| ~~500~~ | 400 | Rent ~~5~~ |\n| --- | --- | --- |"
    )


def test_a_part_of_a_cell_has_a_font_of_its_own() -> None:
    styles = f'<styleSheet {MAIN}><fonts><font/><font><strike/></font></fonts><cellXfs><xf fontId="1"/></cellXfs></styleSheet>'
    runs = "<r><t>Rent </t></r><r><rPr><strike/></rPr><t>500</t></r><r><rPr><b/></rPr><t> 400</t></r>"
    cells = f'<row><c s="0" t="inlineStr"><is>{runs}</is></c><c t="inlineStr"><is>{runs}</is></c></row>'
    assert workbook(cells, members={"xl/styles.xml": styles}) == (
        "## Plan\n\n| ~~Rent 500~~ 400 | Rent ~~500~~ 400 |\n| --- | --- |"
    )
