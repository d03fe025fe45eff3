"""How much of a known text is read from each format: `fixtures/formats` against `expected.json`, shown in docs/formats.md.

The committed table must be up to date: `FORMATS_TABLE=1 pytest tests/extraction/test_formats.py` writes a new one.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.extraction.extractor import Extractor
from dagster_offload.library.files import DOCUMENT_TYPES, extension
from dagster_offload.stages.graph import Outcome
from tests.extraction.measure import Measured, measure

ROOT = Path(__file__).parents[2]
FORMATS = ROOT / "fixtures" / "formats"
TABLE = ROOT / "docs" / "formats.md"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMATS / "expected.json").read_text(encoding="utf-8"))
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

# Formats without a promise. The table shows what they lose.
NOT_PROMISED = {"report.doc"}
# A PDF has no tables, only the position of each word on the page.
CELLS_RUN_TOGETHER = {"report.pdf"}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    with Extractor() as extractor:
        found = {name: extractor.extract(FORMATS / name) for name in EXPECTED}
    assert {name for name, one in found.items() if one.outcome != Outcome.OK} == set()
    return {name: one.text for name, one in found.items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_nearly_every_word_is_read_in_order_and_tables_keep_their_rows(texts: dict[str, str], name: str) -> None:
    measured = measure(texts[name], EXPECTED[name])
    assert measured.words >= (0.9 if name in NOT_PROMISED else 0.95), measured.missing
    assert measured.order == 1
    assert measured.lines in (None, 1)
    assert measured.rows in (None, 1) or name in CELLS_RUN_TOGETHER
    assert measured.phrases


def test_the_table_in_the_documentation_is_up_to_date(texts: dict[str, str]) -> None:
    table = as_table({name: measure(text, EXPECTED[name]) for name, text in texts.items()})
    page = TABLE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    committed, _, after = rest.partition(END)
    if os.environ.get("FORMATS_TABLE") == "1":
        TABLE.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
        return
    assert committed == table, "docs/formats.md is out of date: FORMATS_TABLE=1 pytest tests/extraction/test_formats.py"


def test_every_format_of_the_fixtures_is_a_document_type() -> None:
    assert {extension(name) for name in EXPECTED} <= DOCUMENT_TYPES


def test_sheets_have_names_slides_have_notes_and_chapters_are_in_reading_order(texts: dict[str, str]) -> None:
    assert texts["sheets.xlsx"].index("Readings 관측값") < texts["sheets.xlsx"].index("예산 Budget")
    assert texts["slides.pptx"].count("Notes:") == texts["slides.odp"].count("Notes:") == 3
    first, second, third = (texts["spine.epub"].index(word) for word in ("계단", "병 속의 편지", "답장"))
    assert first < second < third


def test_a_mailbox_gives_each_mail_with_its_headers_and_unquoted_lines(texts: dict[str, str]) -> None:
    box = texts["mails.mbox"]
    assert [box.count(f"{header}: ") for header in ("Subject", "From", "To", "Date")] == [3, 3, 3, 3]
    assert "\nFrom the landing it went straight" in box


def as_table(measured: dict[str, Measured]) -> str:
    lines = ["| Format | File | Written by | Words kept | In order | Tables |", "|---|---|---|---|---|---|"]
    for name, one in measured.items():
        expected = EXPECTED[name]
        lines.append(
            f"| {expected['format']} | `{name}` | {expected['made_by']} | {one.words:.0%} | {one.order:.0%} | {tables(one)} |"
        )
    return "\n".join(lines) + "\n"


def tables(measured: Measured) -> str:
    if measured.rows is None:
        return ""
    if measured.rows == 1:
        return "cells apart"
    return "rows kept, cells run together" if measured.lines == 1 else "lost"
