"""`status` shows the work of long documents and scans before they begin."""

import json
from pathlib import Path

from dagster_offload.drain import drain
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import scan
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.settings import load_settings
from dagster_offload.simulator import Router
from tests.support.cli import Call


def test_status_shows_the_parts_and_the_time_of_a_long_document_before_it_begins(
    call: Call, library: Path, with_ledger: str, router: Router
) -> None:
    rows = (f"2025-03-04,{number:07},Larkfield Water Company,{number % 997}.50" for number in range(9_000))
    (library / "a-table.csv").write_text("\n".join(rows))
    with open_ledger(load_settings()) as ledger:
        scan(load_settings(), ledger)
        run_extraction(load_settings(), ledger)
    [ahead] = json.loads(call("status", "--json").stdout)["long_documents_ahead"]
    assert (ahead["document"], ahead["stage"], ahead["hours"]) == ("a-table.csv", "summarize", None)
    assert 5 < ahead["parts"] < 20
    router.set(latency=0.05)
    assert drain(limit=2).done == 2  # the short ones
    shown = json.loads(call("status", "--json").stdout)
    [ahead] = shown["long_documents_ahead"]
    assert ahead["hours"] > 0
    assert shown["estimate"]["slot_hours_left"] > ahead["hours"], "what is left includes it"
    assert f"a-table.csv  summarize: about {ahead['parts']} parts, about " in call("status").stdout


def test_status_shows_the_pages_that_wait_for_ocr_and_their_time(call: Call, scanned: Path, with_ledger: str) -> None:
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        cur.execute(
            "update work_items set state = 'pending', parts_done = 20, parts_total = 320 where stage = 'extract' "
            "and document_id = (select document_id from documents where key = 'letter.txt')"
        )
        cur.execute("insert into ocr_rates values ('host', 10, 60, 2, clock_timestamp())")
    assert json.loads(call("status", "--json").stdout)["ocr"] == {
        "documents": 1,
        "pages": 300,
        "pages_per_minute": 20,
        "hours": 0.25,
    }
    assert "Pages that wait for OCR: 300 of 1 document, 20.0 pages a minute: about 15 min" in call("status").stdout
