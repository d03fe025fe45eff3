"""List numbers of OpenDocument texts: levels, lists that count on, headings with numbers."""

import pytest

from dagster_offload.extraction.formats.office.odf import open_document_text
from tests.extraction.formats.test_office import archive
from tests.extraction.formats.test_open_document_variants import ODF

XML = 'xmlns:xml="http://www.w3.org/XML/1998/namespace"'


def number(level: int, look: str, **how: str) -> str:
    given = "".join(f' {name.replace("__", ":").replace("_", "-")}="{value}"' for name, value in how.items())
    return f'<text:list-level-style-number text:level="{level}" style:num-format="{look}"{given}/>'


LEVELS = (
    number(1, "1", style__num_suffix=".")
    + number(2, "a", style__num_prefix="(", style__num_suffix=")")
    + number(3, "I", style__num_suffix=".", text__display_levels="3", text__start_value="4")
)
BULLETS = '<text:list-level-style-bullet text:level="1" text:bullet-char="x"/>'


def read(body: str, levels: str = LEVELS, outline: str = "") -> str:
    lists = f'<text:list-style style:name="L">{levels}</text:list-style>'
    content = (
        f"<office:document-content {ODF} {XML}><office:automatic-styles>{lists}</office:automatic-styles>"
        f"<office:body><office:text>{body}</office:text></office:body></office:document-content>"
    )
    headings = f"<text:outline-style>{outline.replace('list-level', 'outline-level')}</text:outline-style>"
    return open_document_text(
        archive(
            {"content.xml": content, "styles.xml": f"<office:document-styles {ODF}>{headings}</office:document-styles>"}
        )
    )


def items(*inner: str, attributes: str = 'text:style-name="L"') -> str:
    return f"<text:list {attributes}>{''.join(f'<text:list-item>{one}</text:list-item>' for one in inner)}</text:list>"


def line(text: str) -> str:
    return f"<text:p>{text}</text:p>"


def test_items_have_the_numbers_of_their_levels() -> None:
    deepest = items(line("deep"), attributes="")
    inner = items(line("first") + deepest, line("second"), attributes="")
    assert read(items(line("one") + inner, line("two"))) == (
        "1. one\n  (a) first\n    1.a.IV. deep\n  (b) second\n2. two"
    )


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ('text:style-name="L"', "1."),
        ('text:style-name="L" text:continue-numbering="true"', "3."),
        ('text:style-name="L" text:continue-list="a"', "2."),
        ('text:style-name="L" text:continue-list="unknown"', "1."),
    ],
)
def test_a_list_starts_anew_unless_it_continues_another(attributes: str, shown: str) -> None:
    first = items(line("one"), attributes='text:style-name="L" xml:id="a"')
    second = items(line("x"), line("y"), attributes='text:style-name="L" xml:id="b"')
    assert read(first + second + items(line("last"), attributes=attributes)).split("\n\n")[-1] == f"{shown} last"


def test_an_item_may_have_a_number_of_its_own_and_a_header_has_none() -> None:
    body = items(line("one"), line("seven"), line("eight")).replace("<text:list-item>", "<text:list-item%s>")
    body = body % ("", ' text:start-value="7"', "")
    assert read(body) == "1. one\n7. seven\n8. eight"


def test_bullets_and_lists_without_a_known_style_keep_their_mark() -> None:
    assert read(items(line("one")), BULLETS) == "- one"
    assert read(items(line("one"), attributes='text:style-name="Other"')) == "- one"


def test_headings_have_the_numbers_of_the_outline() -> None:
    outline = number(1, "1", loext__num_list_format="§ %1%") + number(2, "1", text__display_levels="2")
    outline = outline.replace("loext:", "style:")
    body = "".join(
        f'<text:h text:outline-level="{depth}">{text}</text:h>'
        for depth, text in ((1, "Rent"), (2, "Due"), (2, "Late"), (1, "End"))
    )
    assert read(body, outline=outline) == "# § 1 Rent\n\n## 1.1 Due\n\n## 1.2 Late\n\n# § 2 End"


def test_a_heading_in_a_list_has_its_number_and_a_list_in_a_box_is_a_list_of_its_own() -> None:
    heading = '<text:h text:outline-level="2">Rent</text:h>'
    box = f"<text:p>see <draw:frame><draw:text-box>{items(line('inside'))}</draw:text-box></draw:frame></text:p>"
    assert read(items(heading, box, line("three"))) == "## 1. Rent\n2. see \n  1. inside\n3. three"
