"""List numbers of DOCX: lists that count on, start anew, change a level, or take it from a style."""

import pytest

from tests.extraction.formats.test_office import paragraph, run, word


def level(number: int, look: str, text: str, start: int = 1) -> str:
    return f'<w:lvl w:ilvl="{number}"><w:start w:val="{start}"/><w:numFmt w:val="{look}"/><w:lvlText w:val="{text}"/></w:lvl>'


def anew(number: int, start: int = 1, changed: str = "") -> str:
    return f'<w:lvlOverride w:ilvl="{number}"><w:startOverride w:val="{start}"/>{changed}</w:lvlOverride>'


def changed(number: int, how: str) -> str:
    return f'<w:lvlOverride w:ilvl="{number}">{how}</w:lvlOverride>'


def use(name: str, overrides: str = "", abstract: str = "7") -> str:
    return f'<w:num w:numId="{name}"><w:abstractNumId w:val="{abstract}"/>{overrides}</w:num>'


def labels(numbering: str, *items: tuple[str, int]) -> list[str]:
    """The labels of paragraphs in these lists, at these levels."""
    number = '<w:numPr><w:ilvl w:val="{}"/><w:numId w:val="{}"/></w:numPr>'
    body = "".join(paragraph(run("x"), number.format(depth, name)) for name, depth in items)
    return [line.removesuffix("x").strip() for line in word(body, numbering=numbering).split("\n\n")]


LEVELS = level(0, "decimal", "%1.") + level(1, "decimal", "%1.%2")
LIST = f'<w:abstractNum w:abstractNumId="7">{LEVELS}</w:abstractNum>'


@pytest.mark.parametrize(
    ("uses", "items", "shown"),
    [
        (use("1") + use("2"), "1 1 2 1", "1. 2. 3. 4."),
        (use("1") + use("2", anew(0)), "1 1 2 2 2", "1. 2. 1. 2. 3."),
        (use("1") + use("2", anew(0, 5)), "1 2 2 1", "1. 5. 6. 7."),
        (use("1") + use("2", anew(0)) + use("3", anew(0)), "2 2 3 3", "1. 2. 1. 2."),
        (use("1") + use("2", changed(0, level(0, "upperLetter", "(%1)"))), "1 2 1", "1. (B) 3."),
        (use("1") + use("2", anew(0, 3, level(0, "lowerRoman", "%1)"))), "1 2 2", "1. iii) iv)"),
    ],
)
def test_a_list_counts_on_where_it_is_used_again_unless_it_starts_anew(uses: str, items: str, shown: str) -> None:
    assert labels(LIST + uses, *((name, 0) for name in items.split())) == shown.split()


def test_a_level_that_starts_anew_keeps_the_numbers_above_it() -> None:
    items = (("1", 0), ("1", 1), ("1", 0), ("1", 1), ("1", 1), ("2", 1), ("2", 1), ("1", 0), ("2", 1))
    numbering = LIST + use("1") + use("2", anew(1))
    assert labels(numbering, *items) == ["1.", "1.1", "2.", "2.1", "2.2", "2.1", "2.2", "3.", "3.1"]


def test_a_list_takes_its_levels_from_a_style_of_lists() -> None:
    style = f'<w:abstractNum w:abstractNumId="1"><w:styleLink w:val="Clauses"/>{LEVELS}</w:abstractNum>'
    linked = '<w:abstractNum w:abstractNumId="2"><w:numStyleLink w:val="Clauses"/></w:abstractNum>'
    unknown = '<w:abstractNum w:abstractNumId="3"><w:numStyleLink w:val="Other"/></w:abstractNum>'
    numbering = style + linked + unknown + use("4", abstract="2") + use("5", abstract="3")
    assert labels(numbering, ("4", 0), ("4", 1), ("5", 0)) == ["1.", "1.1", ""]


@pytest.mark.parametrize(
    "override", ["<w:lvlOverride/>", '<w:lvlOverride w:ilvl="x"><w:startOverride/></w:lvlOverride>']
)
def test_a_damaged_override_costs_no_number(override: str) -> None:
    assert labels(LIST + use("1", override), ("1", 0), ("1", 0)) == ["1.", "2."]


def test_a_legal_level_writes_the_numbers_above_it_in_digits() -> None:
    legal = level(1, "decimal", "%1.%2").replace("<w:lvlText", "<w:isLgl/><w:lvlText")
    off = level(2, "decimal", "%1.%3").replace("<w:lvlText", '<w:isLgl w:val="0"/><w:lvlText')
    numbering = f'<w:abstractNum w:abstractNumId="7">{level(0, "upperRoman", "Article %1")}{legal}{off}</w:abstractNum>'
    items = (("1", 0), ("1", 0), ("1", 1), ("1", 2))
    assert labels(numbering + use("1"), *items) == ["Article I", "Article II", "2.1", "II.1"]


@pytest.mark.parametrize(
    ("restart", "shown"),
    [("0", "1. 1.1 1) 1.2 2) 2. 2.1 3)"), ("1", "1. 1.1 1) 1.2 2) 2. 2.1 1)"), ("2", "1. 1.1 1) 1.2 1) 2. 2.1 1)")],
)
def test_a_level_starts_again_only_below_the_levels_that_it_names(restart: str, shown: str) -> None:
    deepest = level(2, "decimal", "%3)").replace("<w:numFmt", f'<w:lvlRestart w:val="{restart}"/><w:numFmt')
    numbering = f'<w:abstractNum w:abstractNumId="7">{LEVELS}{deepest}</w:abstractNum>'
    items = (("1", depth) for depth in (0, 1, 2, 1, 2, 0, 1, 2))
    assert labels(numbering + use("1"), *items) == shown.split()


def numbered(inner: str, end: str = "") -> str:
    return paragraph(inner, f'<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr><w:rPr>{end}</w:rPr>')


def test_a_numbered_paragraph_without_text_has_its_number() -> None:
    cells = "".join(f"<w:tc>{cell}</w:tc>" for cell in (numbered(""), paragraph(run("rent"))))
    body = f"<w:tbl><w:tr>{cells}</w:tr><w:tr>{cells}</w:tr></w:tbl>" + numbered("") + numbered(run("deposit"))
    assert word(body, numbering=LIST + use("1")) == ("| 1. | rent |\n| --- | --- |\n| 2. | rent |\n\n3.\n\n4. deposit")


@pytest.mark.parametrize("end", ["<w:vanish/>", '<w:del w:id="1"/>', '<w:moveFrom w:id="1"/>'])
def test_a_paragraph_that_is_hidden_or_deleted_with_its_end_takes_no_number(end: str) -> None:
    body = numbered(run("one")) + numbered("", end) + numbered(run("two"))
    assert word(body, numbering=LIST + use("1")) == "1. one\n\n2. two"


def test_an_empty_item_of_a_list_with_bullets_is_left_out() -> None:
    bullets = f'<w:abstractNum w:abstractNumId="7">{level(0, "bullet", "x")}</w:abstractNum>{use("1")}'
    assert word(numbered(run("one")) + numbered(""), numbering=bullets) == "- one"
