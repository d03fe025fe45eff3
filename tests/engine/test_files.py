"""From file to record: renames, edits during an open call, files that vanish and return."""

import errno
import os
import shutil
from collections.abc import Iterator

import pytest

from dagster_offload.engine import scan as scanning
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.scan import library_differs, scan
from dagster_offload.errors import LibraryMissing, ScanRefused
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.work import documents
from dagster_offload.library import new_files
from dagster_offload.library.files import FileStat, SeenFile
from dagster_offload.library.seen import SeenFiles
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.engine import FILLER, Engine

pytestmark = pytest.mark.usefixtures("kept_extractor")


def write(engine: Engine, key: str, text: str) -> None:
    path = engine.library / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def titles(engine: Engine) -> dict[str, str | None]:
    return {row["document"]: row["title"] for row in engine.sql("select document, title from records")}


def test_files_become_records(engine: Engine) -> None:
    write(engine, "lease.txt", f"The lease of Elm Street\n{FILLER}")
    write(engine, "한국/임대차.txt", "임대차 계약서\n" + "임차인은 매월 첫날에 차임을 지급한다. " * 40)
    write(engine, "empty.txt", "")
    engine.scan()
    summary = engine.drain()
    assert (summary.done, summary.failed) == (2, 0)
    assert titles(engine) == {
        "lease.txt": "The lease of Elm Street",
        "한국/임대차.txt": "임대차 계약서",
        "empty.txt": None,
    }
    assert engine.item("empty.txt", SUMMARIZE)["outcome"] == "empty"
    assert len(engine.asked()) == 4


def test_a_renamed_file_costs_no_call(engine: Engine) -> None:
    write(engine, "old name.txt", f"A lease\n{FILLER}")
    engine.scan()
    engine.drain()
    os.rename(engine.library / "old name.txt", engine.library / "new name.txt")
    report = engine.scan()
    assert (report.added, report.vanished) == (1, 1)
    engine.drain()
    assert len(engine.asked()) == 2
    assert titles(engine) == {"new name.txt": "A lease"}


def test_a_file_edited_while_its_call_is_open_gets_the_new_texts_record(engine: Engine) -> None:
    write(engine, "lease.txt", f"The old lease\n{FILLER}")
    engine.scan()
    engine.router.set(hold=True)
    drain = engine.beside(engine.drain)
    engine.router.wait(open=1)
    write(engine, "lease.txt", f"The new lease\n{FILLER}")
    engine.scan()
    engine.router.set(hold=False)
    drain.result()
    engine.drain()
    assert titles(engine) == {"lease.txt": "The new lease"}
    assert len(engine.asked()) == 3, "the second stage of the old text is not sent"
    assert len(engine.sql("select 1 from results where stage = 'classify'")) == 2, "the late answer is kept"


def test_a_file_that_vanished_and_returned_keeps_its_results(engine: Engine) -> None:
    write(engine, "lease.txt", f"A lease\n{FILLER}")
    engine.scan()
    engine.drain()
    os.rename(engine.library / "lease.txt", engine.library.parent / "lease.txt")
    write(engine, "other.txt", FILLER)
    engine.scan()
    assert engine.state("lease.txt", SUMMARIZE) == "gone"
    os.rename(engine.library.parent / "lease.txt", engine.library / "lease.txt")
    assert engine.scan().returned == 1
    for stage in (EXTRACT, CLASSIFY, SUMMARIZE):
        assert engine.state("lease.txt", stage) == "done"
    assert len(engine.asked()) == 2


def test_a_file_that_vanishes_before_its_extraction_waits_for_the_next_scan(engine: Engine) -> None:
    write(engine, "a.txt", FILLER)
    scan(engine.settings(), engine.ledger)
    (engine.library / "a.txt").unlink()
    counts = run_extraction(engine.settings(), engine.ledger)
    item = engine.item("a.txt", EXTRACT)
    assert (counts.done, counts.failed) == (0, 0)
    assert (item["state"], item["attempts"]) == ("pending", 0)
    assert "next scan" in item["reason"]


@pytest.mark.rule("library-9")
def test_a_document_that_is_only_in_icloud_waits_for_its_download_and_keeps_its_record(engine: Engine) -> None:
    write(engine, "done.txt", f"A lease\n{FILLER}")
    engine.scan()
    engine.drain()
    write(engine, "a.txt", FILLER)
    scan(engine.settings(), engine.ledger)
    for name in ("a.txt", "done.txt"):
        os.rename(engine.library / name, engine.library / f".{name}.icloud")
    assert engine.scan().vanished == 0
    item = engine.item("a.txt", EXTRACT)
    assert (item["state"], item["attempts"]) == ("pending", 0)
    assert "iCloud and not downloaded: download it in Finder" in item["reason"]
    assert titles(engine)["done.txt"] == "A lease"
    os.rename(engine.library / ".a.txt.icloud", engine.library / "a.txt")
    engine.sql("update work_items set not_before = null")
    engine.scan()
    assert engine.state("a.txt", EXTRACT) == "done"


def test_an_unmounted_and_an_empty_library_change_nothing(engine: Engine) -> None:
    for number in range(3):
        write(engine, f"{number}.txt", f"{number} {FILLER}")
    engine.scan()
    before = engine.sql("select document_id, is_present from documents order by 1")
    os.rename(engine.library, engine.library.parent / "unmounted")
    with pytest.raises(LibraryMissing, match="OFFLOAD_LIBRARY"):
        engine.scan()
    engine.library.mkdir()
    with pytest.raises(ScanRefused, match="--accept-vanished"):
        engine.scan()
    assert engine.sql("select document_id, is_present from documents order by 1") == before


def test_a_file_that_is_removed_during_a_scan_becomes_no_failed_document(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(engine, "a.txt", FILLER)
    write(engine, "folder/b.txt", FILLER)
    engine.scan()
    write(engine, "a.txt", f"changed {FILLER}")
    write(engine, "folder/b.txt", f"changed {FILLER}")
    write(engine, "folder/c.txt", FILLER)
    begin = documents.begin_scan

    def remove_and_begin(cur: Cursor) -> int:
        (engine.library / "a.txt").unlink()
        shutil.rmtree(engine.library / "folder")
        return begin(cur)

    monkeypatch.setattr(documents, "begin_scan", remove_and_begin)
    report = scan(engine.settings(), engine.ledger)
    assert (report.changed, report.added, report.unreadable, report.left_for_next_scan) == (0, 0, 0, 3)
    assert (engine.state("a.txt", EXTRACT), engine.state("folder/b.txt", EXTRACT)) == ("done", "done")


def test_a_library_that_gets_lost_during_a_scan_accuses_no_document(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(engine, "a.txt", FILLER)
    engine.scan()
    write(engine, "a.txt", f"changed {FILLER}")

    def read_after_the_loss(_file: FileStat) -> str:  # only a real network mount answers like this
        os.rename(engine.library, engine.library.parent / "unmounted")
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(scanning, "digest", read_after_the_loss)
    with pytest.raises(LibraryMissing, match="can no longer be read"):
        scan(engine.settings(), engine.ledger)
    assert engine.state("a.txt", EXTRACT) == "done"


@pytest.mark.parametrize("lost", [errno.ETIMEDOUT, errno.ENODEV, errno.ESTALE])
def test_a_mount_below_the_library_that_gets_lost_during_a_scan_accuses_no_document(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    write(engine, "a.txt", FILLER)

    def read_after_the_loss(_file: FileStat) -> str:
        raise OSError(lost, os.strerror(lost))

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "digest", read_after_the_loss)
        report = scan(engine.settings(), engine.ledger)
    assert (report.added, report.unreadable, report.left_for_next_scan) == (0, 0, 1)
    assert scan(engine.settings(), engine.ledger).added == 1


def test_a_scan_that_is_interrupted_while_it_reads_the_ledger_leaves_the_connection_free(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write(engine, f"{number}.txt", FILLER)
    engine.scan()

    def interrupt(files: Iterator[SeenFile]) -> SeenFiles:
        next(files)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scanning, "SeenFiles", interrupt)
        with pytest.raises(KeyboardInterrupt):  # without end, if the rollback waits for the files
            scan(engine.settings(), engine.ledger)
    assert engine.scan().found == 3


def test_the_library_differs_only_after_a_new_file_is_added(engine: Engine) -> None:
    write(engine, "a.txt", FILLER)
    os.utime(engine.library / "a.txt", (1_000_000_000, 1_000_000_000))
    assert library_differs(engine.settings(), engine.ledger) == "1 new or changed, 0 gone, of 1 files"
    engine.scan()
    assert library_differs(engine.settings(), engine.ledger) is None
    write(engine, "b.txt", FILLER)
    assert library_differs(engine.settings(), engine.ledger) == "1 new or changed, 0 gone, of 2 files"


def test_a_scan_of_more_files_than_it_keeps_unpacked_stores_all_in_order(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_files, "MOST_UNPACKED", 3)
    monkeypatch.setattr(scanning, "BATCH", 2)
    monkeypatch.setattr(scanning, "LOOKED_UP", 4)
    keys = [f"{folder}/{number}.txt" for folder in "cab" for number in range(3)]
    for key in keys:
        write(engine, key, key)
    progress: list[tuple[int, int]] = []
    report = scan(engine.settings(), engine.ledger, on_progress=lambda done, total: progress.append((done, total)))
    assert (report.found, report.added) == (9, 9)
    assert progress == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    stored = engine.sql("select key from documents order by document_id")
    assert [row["key"] for row in stored] == sorted(keys)

    for key in keys[1:]:
        write(engine, key, f"{key}, edited")
    (engine.library / keys[0]).unlink()
    report = scan(engine.settings(), engine.ledger)
    assert (report.found, report.added, report.changed, report.vanished) == (8, 0, 8, 1)
