"""Dynamic forms (XFA): PDF files whose only page asks to wait for another viewer."""

import pytest

from dagster_offload.extraction.formats.pdf import pdf_text
from dagster_offload.extraction.refusals import FileRefused
from tests.extraction.made_pdf import Page, lines, made_pdf

TEMPLATE = """<template xmlns="http://www.xfa.org/schema/xfa-template/3.3/"><subform name="form">
<draw><value><exData contentType="text/html"><body><p>Application for</p><p>a berth</p></body></exData></value></draw>
<field name="applicant"><ui><textEdit/></ui><caption><value><text>Name of applicant</text></value></caption></field>
<field name="pin"><ui><passwordEdit/></ui><caption><value><text>PIN</text></value></caption></field>
<field name="send"><ui><button/></ui><caption><value><text>Send</text></value></caption></field>
<field name="note" presence="hidden"><ui><textEdit/></ui><caption><value><text>Internal</text></value></caption></field>
<exclGroup name="size"><field><ui><checkButton/></ui><caption><value><text>up to 8 m</text></value></caption>
<items><integer>1</integer></items></field><field><ui><checkButton/></ui><caption><value><text>over 8 m</text></value></caption>
<items><integer>2</integer></items></field></exclGroup>
<field name="pier"><ui><choiceList/></ui><caption><value><text>Pier</text></value></caption>
<items save="1"><text>n</text><text>s</text></items><items><text>North</text><text>South</text></items></field>
<subform name="crew">
<field name="person"><ui><textEdit/></ui><caption><value><text>Crew</text></value></caption></field></subform>
</subform></template>"""
DATA = """<xfa:datasets xmlns:xfa="http://www.xfa.org/schema/xfa-data/1.0/"><xfa:data><form><applicant>Yuna Castellan</applicant>
<pin>4711</pin><note>secret</note><size>2</size><pier>s</pier><crew><person>Mio</person></crew><crew><person>Ana</person></crew>
<plate>HX 7781</plate></form></xfa:data></xfa:datasets>"""


def form(*packets: tuple[str, str], entries: str = "/NeedsRendering true") -> bytes:
    return made_pdf(Page(lines("Please wait...")), packets=packets, catalog=entries)


def test_a_dynamic_form_gives_its_labels_and_values_instead_of_please_wait() -> None:
    found = pdf_text(form(("template", TEMPLATE), ("datasets", DATA)))
    assert found.pages[0].split("\n") == [
        "Application for", "a berth", "Name of applicant Yuna Castellan", "[ ] up to 8 m", "[x] over 8 m", "Pier South",
        "Crew Mio, Ana", "plate: HX 7781",
    ]  # fmt: skip


def test_an_empty_dynamic_form_gives_its_labels() -> None:
    (page,) = pdf_text(form(("template", TEMPLATE))).pages
    assert page.startswith("Application for\na berth\nName of applicant\n[ ] up to 8 m")
    assert "wait" not in page


def one_form(template: str, data: str = "") -> str:
    datasets = f"<datasets><data><form>{data}</form></data></datasets>"
    return pdf_text(form(("template", f"<template>{template}</template>"), ("datasets", datasets))).pages[0]


def test_a_picture_of_the_template_is_not_read_as_text() -> None:
    logo = "<draw><value><image>iVBORw0KGgo=</image></value></draw>"
    assert one_form(logo + "<draw><value><text>Berths</text></value></draw>") == "Berths"
    assert one_form('<field name="image"><ui><textEdit/></ui></field>', "<image>a boat</image>") == "a boat"


def test_a_hidden_field_does_not_take_the_value_of_a_shown_one() -> None:
    hidden = '<subform presence="hidden"><field name="boat"/><field name="note"/></subform>'
    text = one_form(
        hidden + '<field name="boat"><ui><textEdit/></ui></field>', "<boat>Petrel</boat><note>secret</note>"
    )
    assert text == "Petrel"


def test_a_form_whose_pages_are_drawn_is_read_from_its_pages() -> None:
    assert pdf_text(form(("template", TEMPLATE), entries="")).pages == ("Please wait...",)


def test_a_dynamic_form_that_cannot_be_read_is_unsupported_and_says_what_to_do() -> None:
    deep = "<template>" + "<subform>" * 5000 + "</subform>" * 5000 + "</template>"
    for packets in ((), (("template", "<template"),), (("template", deep),)):
        with pytest.raises(FileRefused) as refused:
            pdf_text(form(*packets))
        assert refused.value.code == "unsupported_type"
        assert "print it to a new PDF" in refused.value.message
