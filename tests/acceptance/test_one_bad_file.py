"""One bad file neither stops nor starves the others: letters come first, and everything else is named."""

import json
import os

import pytest

from dagster_offload.simulator import Router
from tests.support.acceptance import Home

THE_YEAR_2400 = 13_569_465_600


@pytest.mark.rule("ledger-11")
@pytest.mark.rule("library-8")
def test_letters_come_first_beside_a_huge_table_a_broken_workbook_and_a_file_from_2400(
    home: Home, router: Router
) -> None:
    rows = (f"2025-03-04,{number:07},Larkfield Water Company,{number % 997}.50,EUR,paid" for number in range(70_000))
    home.write("a-table.csv", "\n".join(rows))
    (home.library / "b-broken.xlsb").write_bytes(b"PK\x03\x04 not the rest of an archive")
    home.write("c-from-2400.txt", "This file has a date of the year 2400.")
    os.utime(home.library / "c-from-2400.txt", (THE_YEAR_2400, THE_YEAR_2400))
    letters = [f"z-letter-{number}.txt" for number in range(5)]
    for letter in letters:
        home.write(letter, f"Dear landlord, this is {letter}. The heating has been cold since Monday.")
    home.write("package-lock.json", "{}")
    home.write("archive.zip", "PK")

    scanned = home.run("scan", "--json")
    assert scanned.returncode == 0, scanned.stderr
    summary = json.loads(scanned.stdout)
    assert (summary["found"], summary["extracted"]) == (8, 7)
    assert (summary["extraction_failed"], summary["extraction_to_retry"]) == (1, {})
    assert summary["left_out"]["type"] == {"count": 1, "names": ["archive.zip"]}
    assert summary["left_out"]["generated"] == {"count": 1, "names": ["package-lock.json"]}
    assert "b-broken.xlsb" in home.run("status").stdout

    router.set(mode="awake")
    drained = home.run("drain", "--limit", "6", "--json")
    assert drained.returncode == 0, drained.stderr
    assert json.loads(drained.stdout)["done"] == 6
    table = json.loads(home.run("explain", "a-table.csv", "--json").stdout)
    assert [item["state"] for item in table["items"]] == ["done", "pending", "pending"]
    assert table["calls"] == []
    status = home.status()
    assert (status["stages"]["summarize"]["done"], status["stages"]["summarize"]["pending"]) == (6, 1)
    [ahead] = status["long_documents_ahead"]
    assert (ahead["document"], ahead["stage"]) == ("a-table.csv", "summarize")
    assert ahead["parts"] > 50
    assert ahead["hours"] > 0
