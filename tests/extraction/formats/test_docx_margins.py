"""Headers and footers of DOCX: those that pages show, in the order of the sections."""

import pytest

from dagster_offload.extraction.formats.office.docx import docx_text
from tests.extraction.formats.test_office import OFFICE, WORD, archive, paragraph, related, run


def section(*references: tuple[str, str], more: str = "") -> str:
    """The properties of a section. `references`: the type of page, and the name of its header."""
    named = "".join(f'<w:headerReference w:type="{kind}" r:id="{name}"/>' for kind, name in references)
    return f"<w:sectPr>{named}{more}</w:sectPr>"


def read(*sections: str, settings: str = "") -> list[str]:
    """The headers that a document with these sections shows."""
    names = ("first", "default", "even", "later")
    body = "".join(paragraph("", one) for one in sections) + paragraph(run("body"))
    parts = {f"word/{name}.xml": f"<w:hdr {WORD}>{paragraph(run(f'the {name} one'))}</w:hdr>" for name in names}
    text = docx_text(
        archive(
            {
                "word/document.xml": f'<w:document {WORD} xmlns:r="{OFFICE}"><w:body>{body}</w:body></w:document>',
                "word/_rels/document.xml.rels": related(**{name: ("header", f"{name}.xml") for name in names}),
                "word/settings.xml": f"<w:settings {WORD}>{settings}</w:settings>",
                **parts,
            }
        )
    )
    assert text.endswith("body")
    return text.removesuffix("body").split()[1::3]


ALL = (("first", "first"), ("default", "default"), ("even", "even"))
FIRST_DIFFERS = "<w:titlePg/>"


@pytest.mark.parametrize(
    ("more", "settings", "shown"),
    [
        ("", "", ["default"]),
        (FIRST_DIFFERS, "", ["first", "default"]),
        ('<w:titlePg w:val="0"/>', "", ["default"]),
        (FIRST_DIFFERS, "<w:evenAndOddHeaders/>", ["first", "default", "even"]),
    ],
)
def test_headers_that_are_switched_off_are_not_read(more: str, settings: str, shown: list[str]) -> None:
    assert read(section(*ALL, more=more), settings=settings) == shown


def test_a_section_has_the_headers_of_the_one_before_unless_it_names_its_own() -> None:
    assert read(section(*ALL), section(("default", "later"), more=FIRST_DIFFERS)) == ["default", "first", "later"]


def test_all_headers_are_read_if_no_section_names_any() -> None:
    assert read(section()) == ["default", "even", "first", "later"]
