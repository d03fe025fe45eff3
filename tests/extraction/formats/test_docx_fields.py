"""What a page of DOCX shows otherwise than by its letters: characters by their numbers, and fields."""

import pytest

from tests.extraction.formats.test_office import paragraph, run, word


@pytest.mark.parametrize(
    ("font", "code", "shown"),
    [
        ("Wingdings", "F0FE", "☑"),
        ("Wingdings", "006F", "□"),
        ("Symbol", "F06D", "μ"),
        ("MS Gothic", "2612", "☒"),
        ("Other", "F0E1", "\uf0e1"),
        ("Other", "", ""),
        ("Other", "xyz", ""),
    ],
)
def test_a_character_by_its_font_and_number_is_read(font: str, code: str, shown: str) -> None:
    symbol = f'<w:r><w:sym w:font="{font}" w:char="{code}"/></w:r>'
    assert word(paragraph(run("a ") + symbol + run(" b"))) == f"a {shown} b"


def field(*instruction: str, result: str = "") -> str:
    marks = [f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end")]
    instructions = "".join(f"<w:r><w:instrText>{part}</w:instrText></w:r>" for part in instruction)
    return f"{marks[0]}{instructions}{marks[1]}{result}{marks[2]}"


GLOSS = (' EQ \\* jc2 \\* "Font:MS Mincho" \\o\\ad(\\s\\up 9(', "きもん", "),鬼門)")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (field(*GLOSS), "きもん鬼門"),
        (field(*GLOSS).replace('<w:r><w:fldChar w:fldCharType="separate"/></w:r>', ""), "きもん鬼門"),
        (field(' SYMBOL 254 \\f "Wingdings" ', result=f"{run('?')}<w:r><w:tab/></w:r>"), "☑"),
        (field(" EQ \\f(1,2) "), "1/2"),
        (field(" eq \\f(a+b; 2)", result=run("?")), "(a+b)/2"),
        (field("HYPERLINK ", result=run("the page")), "the page"),
        (field("HYPERLINK", result=run("the ") + field(*GLOSS) + run(" page")), "the きもん鬼門 page"),
        (f"<w:fldSimple w:instr=' SYMBOL 169 '>{run('?')}</w:fldSimple>", "©"),
        (f"<w:fldSimple w:instr=' PAGE '>{run('12')}</w:fldSimple>", "12"),
        (
            "<w:ruby><w:rt>" + run("きもん") + "</w:rt><w:rubyBase>" + run("鬼門") + "</w:rubyBase></w:ruby>",
            "きもん鬼門",
        ),
    ],
)
def test_what_the_page_shows_of_a_field_is_read(body: str, shown: str) -> None:
    assert word(paragraph(run("a ") + body + run(" b"))) == f"a {shown} b"
