"""A scan while a lane works on the document, and while another transaction stands in its way."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import ClaimedItem
from dagster_offload.ledger.work import documents, finish, refused_answers, suspects
from dagster_offload.library.files import FileStat
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import EXTRACT
from tests.support.ledger import LOOKED_AT, RECIPES, Bench, record_result, sha
from tests.support.patience import PATIENCE_SECONDS
from tests.support.scanned_library import Library


def edited(cur: Cursor, key: str) -> None:
    """A scan finds other bytes in the file."""
    documents.store(cur, FileStat(key, key, 9, 2, 2, 2, "/library"), sha("edited"), None, RECIPES, LOOKED_AT)


def note_cut(cur: Cursor, item: ClaimedItem) -> None:
    suspects.note_cut(cur, DEEP, 1, item, "the call was cut")


def refuse(cur: Cursor, item: ClaimedItem) -> None:
    refused_answers.keep(cur, item, "no_json", "words")


@pytest.mark.parametrize("add_rows", [note_cut, refuse])
def test_rows_a_lane_adds_to_a_work_item_that_a_scan_removes_are_removed_too(
    bench: Bench, add_rows: Callable[[Cursor, ClaimedItem], None]
) -> None:
    bench.extracted("a.txt")
    item = bench.hold(bench.worker()).items[0]
    with bench.ledger.transaction() as scan:
        edited(scan, "a.txt")
        lane = bench.begun(lambda cur: add_rows(cur, item))
        assert not lane.done()
    lane.result(PATIENCE_SECONDS)
    assert bench.sql("select 1 from cuts union all select 1 from refused_answers") == []


def test_a_scan_waits_for_a_lane_that_finishes_without_a_deadlock(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    with bench.ledger.transaction() as lane:
        finish.lock_held(lane, claim, claim.items[0])
        scan = bench.begun(lambda cur: edited(cur, "a.txt"))
        assert not scan.done()
        assert finish.finish(
            lane, worker, [finish.Finish(claim, claim.items[0], record_result("ok"))], RECIPES, None
        ) == [True]
    scan.result(PATIENCE_SECONDS)
    assert bench.state("a.txt", EXTRACT) == "pending"


@pytest.mark.parametrize("step", ["store_new", "store"])
def test_a_scan_that_loses_a_deadlock_retries_its_batch_and_does_not_report_postgres_unavailable(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    library.write("known.txt", "known")
    library.scan()
    library.write("known.txt", "edited")
    library.write("new.txt", "new")
    real, deadlocks = getattr(documents, step), [psycopg.errors.DeadlockDetected("deadlock detected")]

    def deadlock_once(*args: Any) -> None:
        real(*args)
        if deadlocks:
            raise deadlocks.pop()

    monkeypatch.setattr(documents, step, deadlock_once)
    report = library.scan()
    assert (report.added, report.changed) == (1, 1)
    stored = bench.sql("select count(*) as n from transitions where reason = 'new content'")
    assert stored[0]["n"] == 3, "one of the first scan, two of this one, each once"
    assert not any("unavailable" in record.getMessage() for record in caplog.records)
