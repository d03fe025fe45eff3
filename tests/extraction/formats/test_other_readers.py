"""FictionBook files, notebooks, list numbers, and faults of XML that Office tolerates."""

import json

import pytest

from dagster_offload.extraction.formats.fiction_book import fiction_book_text
from dagster_offload.extraction.formats.notebook import notebook_text
from dagster_offload.extraction.formats.office.docx import docx_text
from dagster_offload.extraction.formats.parts.numerals import numeral
from dagster_offload.extraction.formats.parts.zip_xml import BrokenArchive
from tests.extraction.formats.test_office import WORD, archive


def test_a_book_gives_its_titles_and_paragraphs_without_pictures() -> None:
    book = (
        '<?xml version="1.0" encoding="windows-1251"?><FictionBook><description><title-info><genre>x</genre></title-info>'
        "</description><body><title><p>Книга</p></title><section><title><p>One</p></title><p>First <b>word</b>.</p>"
        "<table><tr><td>a</td><td>b</td></tr></table></section></body><binary>QUJD</binary></FictionBook>"
    )
    text = fiction_book_text(book.encode("cp1251"))
    assert text == "# Книга\n\n## One\n\nFirst word.\n\n| a | b |\n| --- | --- |"
    with pytest.raises(BrokenArchive):
        fiction_book_text(b"<FictionBook><body>")


def test_a_notebook_gives_its_cells_and_what_they_printed() -> None:
    printed = {"output_type": "stream", "text": ["4711\n"]}
    shown = {"output_type": "execute_result", "data": {"text/plain": "a table", "image/png": "QUJD"}}
    cells = [
        {"cell_type": "markdown", "source": ["# Readings\n", "of May"]},
        {"cell_type": "code", "source": "print(4711)", "outputs": [printed, shown]},
    ]
    text = notebook_text(json.dumps({"nbformat": 4, "cells": cells}).encode())
    assert text == "# Readings\nof May\n\nprint(4711)\n\n4711\n\n\na table"
    for data in (b"", b"[]", b'{"cells": 3}', b"xylophone"):
        with pytest.raises(BrokenArchive):
            notebook_text(data)


@pytest.mark.parametrize(
    ("number", "style", "shown"),
    [
        (4, "lower roman", "iv"), (1999, "upper roman", "MCMXCIX"), (4000, "upper roman", "4000"),
        (26, "lower letter", "z"), (28, "upper letter", "BB"), (14, "syllable", "하"), (15, "syllable", "15"),
        (3, "jamo", "ㄷ"), (20, "circled", "⑳"), (2, "circled syllable", "㉯"), (12, "korean", "십이"),
        (31, "ideograph", "三十一"), (7, "two digits", "07"), (7, "decimal", "7"), (0, "lower roman", "0"),
    ],
)  # fmt: skip
def test_a_list_number_is_written_in_its_style(number: int, style: str, shown: str) -> None:
    assert numeral(number, style) == shown


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a&nbsp;b", "a\xa0b"),
        ("5 &euro; &lt;x&gt;", "5 € <x>"),
        ("&unknown; word", "&unknown; word"),
        ("R&D", "R&D"),
        ("one\x0bt&#2;wo&#x1F;", "onetwo"),
    ],
)
def test_faults_of_xml_that_office_tolerates_cost_no_document(written: str, read: str) -> None:
    document = f"<w:document {WORD}><w:body><w:p><w:r><w:t>{written}</w:t></w:r></w:p></w:body></w:document>"
    assert docx_text(archive({"word/document.xml": document})) == read


def test_broken_xml_stays_broken() -> None:
    with pytest.raises(BrokenArchive):
        docx_text(archive({"word/document.xml": f"<w:document {WORD}><w:body>&nbsp;"}))


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ({"output_type": "stream", "text": ["\x1b[31mred\x1b[0m", " ink"]}, "red ink"),
        ({"traceback": ["\x1b[0;31mTraceback\x1b[0m", "KeyError: 7"]}, "Traceback\nKeyError: 7"),
        ({"output_type": "display_data", "data": {"text/markdown": ["**Sum**"], "text/plain": "<object>"}}, "**Sum**"),
        ({"output_type": "display_data", "data": {"text/html": "<p>7 &euro;"}}, "7 €"),
        ({"data": {"text/html": "<p>7", "text/plain": "<IPython.core.display.HTML object>"}}, "7"),
        ({"data": {"text/html": "<p>7", "text/plain": "seven"}}, "seven"),
        ({"output_type": "pyout", "html": ["<b>old</b>"]}, "old"),
    ],
)  # fmt: skip
def test_what_the_code_of_a_notebook_shows_is_read(output: dict[str, object], shown: str) -> None:
    cell = {"cell_type": "code", "source": "run()", "outputs": [output]}
    assert notebook_text(json.dumps({"cells": [cell]}).encode()) == f"run()\n\n{shown}"
