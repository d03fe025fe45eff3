"""The table of `records` with stages of one's own: their fields are below the summary."""

import os
import re
from pathlib import Path

from dagster_offload.cli.record_lines import LONGEST_STAGE, own_stage_lines
from dagster_offload.simulator import Router
from tests.support.cli import Call, drained, scan_and_extract
from tests.support.pipeline_file import written

PIPELINE = """\
stages:
  payment:
    when: {classify: {category: invoice}}
    prompt: What must be paid, to whom, and by when?
    answer: {payee: string, amount: number, currency: {enum: [EUR, KRW]}, due: date}
"""


def test_the_table_shows_the_fields_of_own_stages(
    call: Call, with_ledger: str, library: Path, router: Router, tmp_path: Path
) -> None:
    for file in library.iterdir():
        file.unlink()
    (library / "invoice.txt").write_text("Invoice. Amount due: 1250.50 EUR by 2025-03-04. VAT included.")
    (library / "letter.txt").write_text("Dear landlord, kind regards, yours faithfully, sincerely.")
    os.environ["OFFLOAD_CONFIG"] = str(written(PIPELINE, tmp_path / "offload.yaml"))
    scan_and_extract()
    drained()
    shown = call("records").stdout
    assert "title, summary and your stages" in shown
    told = re.search(r"payment: .*amount=1250\.5, currency=EUR, due=2025-03-04", " ".join(shown.split()))
    assert told is not None, shown
    assert shown.count("payment:") == 1, "the condition leaves the letter out"


def test_without_own_stages_the_table_is_as_narrow_as_before(call: Call, answered: Path) -> None:
    shown = call("records").stdout
    assert "title and summary" in shown
    assert ":\n" not in shown


def test_values_are_in_words_empty_ones_are_left_out_and_long_ones_are_cut() -> None:
    record = {
        "payment": {"items": [{"what": "paper", "price": 3.0}], "due": None, "notes": [], "paid": False},
        "people": {"names": ["Ada"] * 100},
        "later": None,
    }
    own = {"payment": ["items", "due", "notes", "paid"], "people": ["names"], "later": ["when"]}
    payment, people = own_stage_lines(record, own)
    assert payment == "payment: items=what: paper, price: 3, paid=false"
    assert people.startswith("people: names=Ada; Ada; ")
    assert len(people) <= LONGEST_STAGE
    assert people.endswith("…")
