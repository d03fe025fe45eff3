"""Changes of the library during work: edited files, renamed files, a disk that is not mounted."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dagster_offload.simulator import Router
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.acceptance import Home, wait_for_open_calls
from tests.support.ledger_reader import LedgerReader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ui import configure, home_for, text_of, write_letters

DOCUMENTS = [f"letter-{number}.txt" for number in range(3)]


@dataclass
class Library:
    """A scanned library and a router that answers. The tests share it and run in order."""

    home: Home
    router: Router
    ledger: LedgerReader

    def rows(self) -> list[list[dict[str, Any]]]:
        return [
            self.ledger("select * from documents order by key"),
            self.ledger("select * from work_items order by item_id"),
            self.ledger("select * from records order by document"),
        ]


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    with Router() as router, home_for(router) as home:
        configure(home, router, deep_concurrency=2)
        write_letters(home, *DOCUMENTS)
        assert home.run("scan").returncode == 0
        yield Library(home, router, home.ledger)


def test_a_file_edited_during_its_call_gets_a_record_of_the_new_text(library: Library) -> None:
    home, router = library.home, library.router
    router.set(hold=True)
    drain = home.start("drain")
    wait_for_open_calls(router, 2, drain, home)
    [edited] = library.ledger(
        "select d.key, i.input_digest from work_items i join documents d using (document_id) "
        "where i.state = 'claimed' and i.stage = %s order by d.key limit 1",
        CLASSIFY,
    )
    home.write(edited["key"], text_of("the new version"))
    scanned = home.run("scan", "--json")
    assert json.loads(scanned.stdout)["changed"] == 1
    router.set(hold=False)
    assert drain.wait(timeout=PATIENCE_SECONDS) == 0, home.said

    [record] = library.ledger("select * from records where document = %s", edited["key"])
    assert "the new version" in record["text"]
    assert "the new version" in record["summary"]
    items = library.ledger.items(edited["key"])
    assert {items[stage]["state"] for stage in (CLASSIFY, SUMMARIZE)} == {"done"}
    assert items[CLASSIFY]["input_digest"] != edited["input_digest"]
    # The answer for the old text is kept.
    kept = library.ledger(
        "select 1 from results where stage = %s and input_digest = %s", CLASSIFY, edited["input_digest"]
    )
    assert len(kept) == 1


def test_a_renamed_file_costs_no_call(library: Library) -> None:
    home, router = library.home, library.router
    assert library.ledger.count("done", SUMMARIZE) == len(DOCUMENTS)
    (home.library / "moved").mkdir()
    (home.library / DOCUMENTS[0]).rename(home.library / "moved" / "renamed.txt")
    calls = len(router.completions())
    scanned = json.loads(home.run("scan", "--json").stdout)
    assert (scanned["added"], scanned["vanished"]) == (1, 1)
    drained = home.run("drain", "--json")
    assert drained.returncode == 0
    assert len(router.completions()) == calls
    [record] = library.ledger("select * from records where document = 'moved/renamed.txt'")
    assert record["category"]
    assert record["summary"]
    assert library.ledger("select 1 from records where document = %s", DOCUMENTS[0]) == []


def test_a_library_that_is_not_mounted_changes_nothing(library: Library) -> None:
    home, before = library.home, library.rows()
    home.library.rename(home.folder / "elsewhere")
    gone = home.run("scan")
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert library.rows() == before

    home.library.mkdir()  # an empty mount point
    empty = home.run("scan")
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)
    assert "Is it mounted?" in empty.stderr
    assert library.rows() == before
