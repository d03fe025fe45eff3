"""Raised digits and formulas: a number is not run together with its exponent, its denominator or the mark of a footnote."""

import pytest

from dagster_offload.extraction.formats.html import html_text
from dagster_offload.extraction.formats.office.odf import open_document_text
from dagster_offload.extraction.formats.parts.line_marks import raised, shown_line
from dagster_offload.extraction.formats.rtf import rtf_text
from tests.extraction.formats.test_office import ODF, archive, deck, paragraph, run, word
from tests.extraction.formats.test_xlsx import row, workbook

RAISED = '<w:rPr><w:vertAlign w:val="superscript"/></w:rPr>'
MATH = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'


@pytest.mark.parametrize(
    ("before", "above", "shown"),
    [
        ("10", "6", "10⁶"), ("10", "-6", "10⁻⁶"), ("1,234", "1,2", "1,234¹,²"), ("5%", "1", "5%¹"), ("(x)", "2", "(x)²"),
        ("1", "st", "1st"), ("m", "2", "m2"), ("Rent", "1", "Rent1"), ("10 ", "6", "10 6"), ("10", "", "10"),
    ],
)  # fmt: skip
def test_raised_digits_stay_apart_from_a_number_before_them(before: str, above: str, shown: str) -> None:
    assert shown_line(f"{before}{raised(above)} m") == f"{shown} m"


def test_digits_that_are_raised_one_by_one_are_one_exponent() -> None:
    assert shown_line(f"2{raised('1')}{raised('0')}") == "2¹⁰"


def test_every_format_keeps_raised_digits_apart() -> None:
    assert word(paragraph(run("10") + f"<w:r>{RAISED}<w:t>6</w:t></w:r>" + run(" m"))) == "10⁶ m"
    assert html_text("<p>10<sup>6</sup> m<td>1,234<sup>1</sup></p>") == "10⁶ m1,234¹"
    assert rtf_text(rb"{\rtf1 10{\super 6} m\super 2\nosupersub  10\super 3\plain 4}") == "10⁶ m2 10³4"
    assert workbook(
        row(1, '<c t="inlineStr"><is><r><t>10</t></r><r><rPr><vertAlign val="superscript"/></rPr><t>6</t></r></is></c>')
    ) == ("## Plan\n\n10⁶")
    drawn = '<a:r><a:t>10</a:t></a:r><a:r><a:rPr baseline="30000"/><a:t>6</a:t></a:r>'
    assert deck({"a": f"<p:sp><a:p>{drawn}</a:p></p:sp>"}) == "10⁶"
    styles = (
        '<style:style style:name="T1"><style:text-properties style:text-position="super 58%"/></style:style>'
        '<style:style style:name="T2"><style:text-properties style:text-position="-8% 58%"/></style:style>'
    )
    body = '<text:p>10<text:span text:style-name="T1">6</text:span> 10<text:span text:style-name="T2">2</text:span></text:p>'
    content = (
        f'<office:document-content {ODF} xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0">'
        f"<office:automatic-styles>{styles}</office:automatic-styles><office:body><office:text>{body}</office:text></office:body>"
        "</office:document-content>"
    )
    assert open_document_text(archive({"content.xml": content})) == "10⁶ 102"


def math(name: str, **parts: str) -> str:
    return f"<m:{name}>{''.join(f'<m:{part}>{inner}</m:{part}>' for part, inner in parts.items())}</m:{name}>"


def sign(text: str) -> str:
    return f"<m:r><m:t>{text}</m:t></m:r>"


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (math("f", num=sign("1"), den=sign("2")), "1/2"),
        (math("f", num=sign("a+b"), den=sign("2c")), "(a+b)/2c"),
        (math("sSup", e=sign("x"), sup=sign("10")), "x^10"),
        (math("sSubSup", e=sign("x"), sub=sign("i"), sup=sign("n+1")), "x_i^(n+1)"),
        (sign("2") + math("f", num=sign("1"), den=sign("2")) + sign("x"), "2 1/2 x"),
        (math("sSup", e=sign("x"), sup=sign("k")) + math("sSup", e=sign("a"), sup=sign("n")), "x^k a^n"),
        (math("d", e=math("f", fPr='<m:type m:val="noBar"/>', num=sign("n"), den=sign("k"))), "(n¦k)"),
        (math("rad", deg="", e=sign("x+1")) + math("rad", deg=sign("3"), e=sign("8")), "√(x+1)3√8"),
        (sign("2") + math("rad", deg=sign("3"), e=sign("8")), "2 3√8"),
        (sign("2") + math("d", e=sign("a+b")), "2(a+b)"),
        (math("d", dPr='<m:begChr m:val="["/><m:endChr m:val=""/>', e=sign("a")), "[a"),
        (math("nary", naryPr='<m:chr m:val="∑"/>', sub=sign("i=1"), sup=sign("n"), e=sign("i")), "∑_(i=1)^n i"),
        (sign("a") + math("func", fName=math("limLow", e=sign("lim"), lim=sign("x→0")), e=sign("x")), "a lim_(x→0) x"),
        (math("m", mr="<m:e><m:r><m:t>1</m:t></m:r></m:e><m:e><m:r><m:t>2</m:t></m:r></m:e>"), "1, 2"),
        (f'<w:del w:id="1">{sign("7")}</w:del>{sign("8")}', "8"),
    ],
)
def test_a_formula_has_its_signs_and_brackets(formula: str, shown: str) -> None:
    assert (
        word(paragraph(run("so ") + f"<m:oMathPara {MATH}><m:oMath>{formula}</m:oMath></m:oMathPara>")) == f"so {shown}"
    )


def test_a_fraction_behind_a_number_is_no_part_of_it() -> None:
    half = math("f", num=sign("1"), den=sign("2"))
    assert word(paragraph(run("2") + f"<m:oMath {MATH}>{half}</m:oMath>" + run("cups"))) == "2 1/2 cups"
    assert rtf_text(rb"{\rtf1 2{\field{\*\fldinst EQ \\f(1,2)}}cups}") == "2 1/2 cups"


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("<mfrac><mn>1</mn><mn>2</mn></mfrac>", "2 1/2 m"),
        ("<mfrac>\n <mrow> <mi>a</mi> <mo> + </mo> <mi>b</mi> </mrow>\n <mn>2</mn>\n</mfrac>", "2(a+b)/2 m"),
        (
            "<mfrac><mrow><mrow><mi>a</mi><mi>b</mi></mrow></mrow><mstyle><mrow><mrow><mn>2</mn></mrow></mrow></mstyle></mfrac>",
            "2 ab/2 m",
        ),
        ("<mo>×</mo><msup><mn>10</mn><mn>6</mn></msup>", "2×10^6 m"),
        ("<msubsup><mi>x</mi><mi>i</mi><mrow><mi>n</mi><mo>+</mo><mn>1</mn></mrow></msubsup>", "2x_i^(n+1)m"),
        ("<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>", "2√(x+1)m"),
        ("<mfrac><mfrac><mn>1</mn><mn>2</mn></mfrac><msqrt><mn>3</mn></msqrt></mfrac>", "2(1/2)/√3 m"),
        ("<mroot><mn>8</mn><mn>3</mn></mroot>", "2 3√8 m"),
        ("<mroot> <mrow><mi>x</mi><mo>+</mo><mn>1</mn></mrow> <mi>n</mi> </mroot>", "2 n√(x+1)m"),
        (
            "<mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd></mtr><mtr><mtd><mn>3</mn></mtd><mtd><mn>4</mn></mtd></mtr></mtable>",
            "21, 2; 3, 4m",
        ),
        ("<mfenced><mn>1</mn><mn>2</mn></mfenced>", "2(1,2)m"),
        ('<mfenced open="[" close="" separators=";"><mn>1</mn><mn>2</mn></mfenced>', "2[1;2m"),
        ('<mfenced separators=""><mi>a</mi></mfenced>', "2(a)m"),
        ('<mo>(</mo><mfrac linethickness="0pt"><mn>6</mn><mn>2</mn></mfrac><mo>)</mo>', "2(6¦2)m"),
        ('<mfrac linethickness="2px"><mn>6</mn><mn>2</mn></mfrac>', "2 6/2 m"),
        (
            "<mmultiscripts><mi>C</mi><none/><mn>2</mn><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>",
            "2C^2 _6^14 m",
        ),
        ("<semantics><mn>4</mn><annotation encoding='application/x-tex'>\\frac{8}{2}</annotation></semantics>", "24m"),
        ("<mfrac><mtext><p>a</p></mtext><mn>2</mn></mfrac>", "2\n\na\n\n/2 m"),
    ],
)
def test_a_formula_of_a_page_has_its_signs_and_brackets(formula: str, shown: str) -> None:
    assert html_text(f"<div>2<math>{formula}</math>m</div>") == shown


def test_a_raised_text_of_several_paragraphs_leaves_no_marks() -> None:
    assert html_text("<sup>a<p>b</p>2</sup>c") == "a\n\nb\n\n2c"
