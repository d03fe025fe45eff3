"""Scans and the documents they store in the ledger: new, changed, gone, back, unreadable, refused."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_offload.engine import scan as scanning
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import KindLeftOut, ScanReport, library_differs, scan
from dagster_offload.errors import LibraryMissing, ScanRefused
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import ClaimedItem, State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import documents, finish, refused_answers, suspects
from dagster_offload.library.digests import digest
from dagster_offload.library.files import FileStat, UnusableName
from dagster_offload.library.walk import walk
from dagster_offload.settings import Settings, load_settings
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import LOOKED_AT, RECIPES, Bench, record_result, sha
from tests.support.statements import counted

LONG_AGO = 1_000_000_000


class Library:
    """A folder of files that is scanned into the ledger of the bench."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.folder.mkdir()

    @property
    def settings(self) -> Settings:
        return load_settings(library=self.folder, home=self.folder.parent / "home")

    def write(self, key: str, text: str, when: float = LONG_AGO) -> Path:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (when, when))
        return path

    def scan(self, **options: Any) -> ScanReport:
        return scan(self.settings, self.bench.ledger, **options)

    def differs(self) -> str | None:
        return library_differs(self.settings, self.bench.ledger)


@pytest.fixture
def library(bench: Bench, tmp_path: Path) -> Library:
    return Library(bench, tmp_path / "library")


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the files that a scan reads."""
    read: list[str] = []

    def reading(file: FileStat) -> str:
        read.append(file.key)
        return digest(file)

    monkeypatch.setattr(scanning, "digest", reading)
    return read


def finish_everything(bench: Bench) -> None:
    worker = bench.worker("scan")
    for stages in ([EXTRACT], [CLASSIFY], [SUMMARIZE]):
        while (claim := bench.take(worker, stages)) is not None:
            for item in claim.items:
                bench.finish(worker, claim, item, None if item.stage == EXTRACT else record_result(claim.document))


def test_a_new_file_is_a_document_with_an_extract_item(library: Library, bench: Bench) -> None:
    library.write("a/b.txt", "text")
    report = library.scan()
    assert (report.found, report.added, report.changed, report.vanished, report.unreadable) == (1, 1, 0, 0, 0)
    assert bench.ledger.run(documents.present_keys) == ["a/b.txt"]
    assert bench.state("a/b.txt", EXTRACT) == State.PENDING


@pytest.mark.rule("library-2")
def test_a_file_is_read_again_only_if_its_stat_changed(library: Library, digested: list[str]) -> None:
    library.write("a.txt", "text")
    library.write("b.txt", "text")
    library.scan()
    library.scan()
    assert sorted(digested) == ["a.txt", "b.txt"]
    library.write("a.txt", "texT")  # the same size and mtime: only ctime and inode differ
    library.scan()
    assert digested[2:] == ["a.txt"]


def test_a_file_written_at_the_moment_of_the_scan_is_read_once_more(library: Library, digested: list[str]) -> None:
    library.write("a.txt", "text", when=time.time())
    library.scan()
    assert library.differs() is not None
    library.bench.sql("update documents set digested_at = digested_at + interval '3 seconds'")
    assert library.differs() is None
    assert digested == ["a.txt"]


def test_a_file_written_at_the_moment_of_the_scan_and_gone_at_the_next_is_gone(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text", when=time.time())
    library.write("b.txt", "text")
    library.scan()
    (library.folder / "a.txt").unlink()
    assert library.differs() == "0 new or changed, 1 gone, of 1 files"
    assert library.scan().vanished == 1
    assert bench.ledger.run(documents.present_keys) == ["b.txt"]


def test_a_file_with_a_future_time_is_not_read_at_every_scan(library: Library, digested: list[str]) -> None:
    library.write("a.txt", "text", when=time.time() + 86_400)
    library.scan()
    assert library.differs() is None
    library.scan()
    assert digested == ["a.txt"]


def test_a_touched_file_with_the_same_bytes_keeps_its_work(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    finish_everything(bench)
    library.write("a.txt", "text", when=LONG_AGO + 60)
    assert library.scan().changed == 0
    assert bench.state("a.txt", SUMMARIZE) == State.DONE


def test_new_bytes_restart_the_document_with_a_clean_record_and_keep_its_results(
    library: Library, bench: Bench
) -> None:
    library.write("a.txt", "text")
    library.scan()
    finish_everything(bench)
    bench.sql("update work_items set attempts = 2, reclaims = 3, lone_deaths = 2, must_run_alone = true")
    library.write("a.txt", "another text")
    assert library.scan().changed == 1
    item = bench.item("a.txt", EXTRACT)
    assert item["state"] == State.PENDING
    assert (item["attempts"], item["reclaims"], item["lone_deaths"], item["must_run_alone"]) == (0, 0, 0, False)
    assert bench.sql("select 1 from work_items where stage <> 'extract'") == []
    assert len(bench.sql("select 1 from results")) == 3


def test_a_file_edited_while_claimed_ends_the_claim(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    worker = bench.worker()
    claim = bench.hold(worker, [EXTRACT])
    library.write("a.txt", "another text")
    library.scan()
    assert not bench.finish(worker, claim)
    assert bench.hold(bench.worker(), [EXTRACT]).items[0].input_digest != claim.items[0].input_digest


def test_a_file_restored_to_its_old_bytes_is_done_without_extraction_or_call(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    finish_everything(bench)
    library.write("a.txt", "another text")
    library.scan()
    library.write("a.txt", "text")
    library.scan()
    claim = bench.take(bench.worker(), [EXTRACT])
    assert claim is not None
    assert claim.items == ()
    for stage in (EXTRACT, CLASSIFY, SUMMARIZE):
        assert bench.state("a.txt", stage) == State.DONE
    assert len(bench.sql("select 1 from calls")) == 2


def test_a_file_that_is_gone_stops_its_work_in_any_state_and_keeps_results(library: Library, bench: Bench) -> None:
    for key in ("done.txt", "claimed.txt", "stays.txt"):
        library.write(key, key)
    library.scan()
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [EXTRACT], keys=["done.txt"]))
    held = bench.hold(worker, [EXTRACT], keys=["claimed.txt"])
    for key in ("done.txt", "claimed.txt"):
        (library.folder / key).unlink()
    assert library.scan().vanished == 2
    states = bench.sql(
        "select state from work_items join documents using (document_id) where key in ('done.txt', 'claimed.txt')"
    )
    assert [row["state"] for row in states] == ["gone"] * 4
    assert not bench.finish(worker, held)
    assert len(bench.sql("select 1 from results")) == 2
    assert bench.ledger.run(documents.present_keys) == ["stays.txt"]
    assert bench.ledger.run(documents.missing_keys, ["stays.txt", "done.txt"]) == ["done.txt"]
    assert {row.document for row in bench.ledger.run(status.records)} == {"stays.txt"}


def test_a_file_that_comes_back_has_its_results_again_without_a_call(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.write("b.txt", "b")
    library.scan()
    finish_everything(bench)
    calls = len(bench.sql("select 1 from calls"))
    os.rename(library.folder / "a.txt", library.folder.parent / "a.txt")
    library.scan()
    os.rename(library.folder.parent / "a.txt", library.folder / "a.txt")
    assert library.scan().returned == 1
    finish_everything(bench)
    assert bench.state("a.txt", SUMMARIZE) == State.DONE
    assert len(bench.sql("select 1 from calls")) == calls


def test_an_unreadable_file_fails_with_the_next_step_and_never_aborts_a_scan(
    library: Library, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(file: FileStat) -> str:
        if file.key == "locked.txt":
            raise PermissionError(13, "Permission denied")
        return digest(file)

    library.write("locked.txt", "text")
    library.write("open.txt", "other")
    monkeypatch.setattr(scanning, "digest", refusing)
    assert library.scan().unreadable == 1
    item = bench.item("locked.txt", EXTRACT)
    assert (item["state"], item["attempts"]) == (State.FAILED, 0)
    assert item["reason"] == "unreadable: Permission denied: check the file's permissions, then scan again"
    assert bench.take(bench.worker(), [EXTRACT], keys=["locked.txt"]) is None
    monkeypatch.setattr(scanning, "digest", digest)
    os.chmod(library.folder / "locked.txt", 0o600)  # the changed ctime makes the scan read it again
    library.scan()
    assert bench.state("locked.txt", EXTRACT) == State.PENDING


def test_a_library_that_is_not_there_changes_nothing(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    os.rename(library.folder, library.folder.parent / "elsewhere")
    with pytest.raises(LibraryMissing):
        library.scan()
    with pytest.raises(LibraryMissing):
        library.scan(accept_vanished=True)
    assert bench.ledger.run(documents.present_keys) == ["a.txt"]


@pytest.mark.rule("library-1")
def test_an_empty_library_with_a_full_ledger_is_refused_until_confirmed(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    (library.folder / "a.txt").unlink()
    with pytest.raises(ScanRefused, match="while the ledger has 1"):
        library.scan()
    assert bench.ledger.run(documents.present_keys) == ["a.txt"]
    assert library.scan(accept_vanished=True).vanished == 1
    assert bench.ledger.run(documents.present_keys) == []


@pytest.mark.rule("library-1")
@pytest.mark.parametrize(
    ("present", "gone", "is_refused"),
    [(50, 10, False), (50, 11, True), (55, 11, False), (54, 11, True), (12, 8, False)],
)
def test_a_scan_that_misses_more_than_a_fifth_and_more_than_ten_files_is_refused(
    library: Library, present: int, gone: int, is_refused: bool
) -> None:
    for number in range(present):
        library.write(f"{number:02}.txt", str(number))
    library.scan()
    for number in range(gone):
        (library.folder / f"{number:02}.txt").unlink()
    if is_refused:
        with pytest.raises(ScanRefused, match=rf"{gone} of {present} documents are gone"):
            library.scan()
        library.scan(accept_vanished=True)
    else:
        assert library.scan().vanished == gone


@pytest.mark.rule("library-3")
def test_names_that_cannot_be_keys_are_reported_and_make_no_documents(library: Library, bench: Bench) -> None:
    library.write("fine.txt", "text")
    library.write("a...b.txt", "text")
    report = library.scan()
    assert list(report.unusable_names) == ["a...b.txt"]
    assert list(bench.ledger.run(status.unusable_names)) == ["a...b.txt"]
    assert bench.ledger.run(documents.present_keys) == ["fine.txt"]
    bench.ledger.run(documents.replace_unusable_names, [UnusableName("x", "why"), UnusableName("x", "twice")])
    assert bench.ledger.run(status.unusable_names) == {"x": "why"}


def test_every_scan_has_a_row_with_its_counts(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text")
    library.scan()
    (row,) = bench.sql("select * from scans")
    assert (row["found"], row["added"], row["changed"], row["vanished"], row["returned"]) == (1, 1, 0, 0, 0)
    assert row["ended_at"] >= row["started_at"]


def test_new_files_stored_together_give_the_same_rows_as_one_by_one(library: Library, bench: Bench) -> None:
    for key in ("known.txt", "b.txt", "copy of known.txt"):
        library.write(key, "the same" if "known" in key else key)
    files = walk(library.folder).files
    (known,) = [file for file in files if file.key == "known.txt"]
    bench.ledger.run(documents.store, known, digest(known), None, RECIPES, LOOKED_AT)
    finish_everything(bench)
    before = bench.item("known.txt", EXTRACT)
    bench.ledger.run(documents.store_new, [(file, digest(file)) for file in files], RECIPES, LOOKED_AT)
    assert bench.ledger.run(documents.present_keys) == ["b.txt", "copy of known.txt", "known.txt"]
    assert bench.item("known.txt", EXTRACT) == before, "another scan stored it"
    assert bench.state("copy of known.txt", SUMMARIZE) == State.DONE
    assert bench.state("b.txt", EXTRACT) == State.PENDING
    alone = FileStat("alone.txt", "", 1, 2, 3, 2**63, "/library")
    together = FileStat("together.txt", "", 1, 2, 3, 2**63, "/library")
    bench.ledger.run(documents.store, alone, "digest 1", None, RECIPES, LOOKED_AT)
    bench.ledger.run(documents.store_new, [(together, "digest 2")], RECIPES, LOOKED_AT)
    for query in (
        "select * from documents where key = %s",
        "select * from documents join work_items using (document_id) where key = %s",
        "select * from documents join transitions using (document_id) where key = %s",
    ):
        one, other = (
            {name: value for name, value in row.items() if name not in DIFFERING}
            for key in ("alone.txt", "together.txt")
            for row in bench.sql(query, key)
        )
        assert one == other


DIFFERING = {
    "document_id",
    "item_id",
    "transition_id",
    "key",
    "digest",
    "input_digest",
    "first_seen_at",
    "changed_at",
    "at",
}


def test_a_first_scan_takes_no_statement_per_file(library: Library) -> None:
    for number in range(100):
        library.write(f"{number}.txt", str(number))
    with counted() as statements:
        library.scan()
    assert len(statements) < 100


# A scan while a lane works on the document


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
    lane.result(60)
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
    scan.result(60)
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


def test_a_file_of_the_year_2400_does_not_abort_the_scan_and_is_read_once(
    library: Library, digested: list[str]
) -> None:
    path = library.write("a.txt", "a", when=13_569_465_600)
    if path.stat().st_mtime_ns < 2**63:
        pytest.skip("this file system stores no such time")
    library.write("b.txt", "b")
    assert library.scan().added == 2
    again = library.scan()
    assert (again.found, again.changed, sorted(digested)) == (2, 0, ["a.txt", "b.txt"])
    assert library.differs() is None


def test_a_stored_64_bit_inode_does_not_abort_the_scan(library: Library, bench: Bench) -> None:
    library.write("a.txt", "a")
    library.scan()
    bench.sql("update documents set inode = inode + 9223372036854775808")
    assert library.differs() is None
    assert library.scan().changed == 0


def test_a_home_inside_the_library_is_left_out_and_reported(library: Library) -> None:
    library.write("a.txt", "a")
    library.write("home/logs/up.txt", "a log")
    settings = load_settings(library=library.folder, home=library.folder / "home")
    report = scan(settings, library.bench.ledger)
    assert (report.found, report.left_out) == (1, {"home": KindLeftOut(1, ["home/"])})


@pytest.mark.rule("library-8")
def test_a_document_that_a_new_rule_leaves_out_keeps_its_results_and_returns_without_a_call(
    library: Library, bench: Bench
) -> None:
    library.write("archive/old.txt", "an old letter")
    library.write("new.txt", "a new letter")
    library.scan()
    run_extraction(library.settings, bench.ledger)
    library.write(".offloadignore", "archive/\n")
    report = library.scan()
    reason = "the pattern archive/ in .offloadignore matches it"
    assert (report.found, report.vanished) == (1, 1)
    assert report.no_longer_documents == {"archive/old.txt": reason}
    assert bench.item("archive/old.txt", EXTRACT)["reason"] == f"left out: {reason}"
    assert bench.state("archive/old.txt", EXTRACT) == State.GONE
    assert library.differs() is None
    (library.folder / ".offloadignore").unlink()
    assert library.scan().returned == 1
    assert bench.state("archive/old.txt", EXTRACT) == State.DONE
    assert len(bench.sql("select 1 from results where stage = 'extract'")) == 2


@pytest.mark.rule("library-1")
def test_rules_that_would_leave_out_most_documents_are_refused_and_named_until_confirmed(
    library: Library, bench: Bench
) -> None:
    for number in range(12):
        library.write(f"archive/{number:02}.txt", str(number))
    library.write("letter.txt", "a letter")
    library.scan()
    library.write(".offloadignore", "archive/\n")
    with pytest.raises(ScanRefused, match="12 of 13 documents are now left out") as refused:
        library.scan()
    assert "Left out: 12 because the pattern archive/ in .offloadignore matches it." in str(refused.value)
    assert "--accept-vanished" in str(refused.value)
    assert bench.state("archive/00.txt", EXTRACT) == State.PENDING
    assert library.scan(accept_vanished=True).vanished == 12


@pytest.mark.rule("library-9")
def test_a_document_that_icloud_has_removed_from_this_machine_stays_present(library: Library, bench: Bench) -> None:
    path = library.write("letters/a.txt", "a letter")
    library.scan()
    path.rename(path.with_name(".a.txt.icloud"))  # now the library has no other document
    report = library.scan()
    assert (report.found, report.vanished) == (0, 0)
    assert report.left_out == {"not_downloaded": KindLeftOut(1, ["letters/a.txt"])}
    assert bench.ledger.run(documents.present_keys) == ["letters/a.txt"]
    assert bench.state("letters/a.txt", EXTRACT) == State.PENDING
    assert library.differs() is None
