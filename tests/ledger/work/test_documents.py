"""The documents that scans store in the ledger: new, changed, gone, back, unreadable."""

import os
import time

import pytest

from dagster_offload.engine import scan as scanning
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.work import documents
from dagster_offload.library.digests import digest
from dagster_offload.library.files import FileStat
from dagster_offload.library.walk import walk
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import LOOKED_AT, RECIPES, Bench
from tests.support.scanned_library import LONG_AGO, Library, finish_everything
from tests.support.statements import counted


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the files that a scan reads."""
    read: list[str] = []

    def reading(file: FileStat) -> str:
        read.append(file.key)
        return digest(file)

    monkeypatch.setattr(scanning, "digest", reading)
    return read


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


# The scan of a busy machine reads a file seconds after it was written.
READ_AS_WRITTEN = "update documents set digested_at = to_timestamp(mtime_ns / 1e9) where key = 'a.txt'"


def test_a_file_written_at_the_moment_of_the_scan_is_read_once_more(library: Library, digested: list[str]) -> None:
    library.write("a.txt", "text", when=time.time())
    library.scan()
    library.bench.sql(READ_AS_WRITTEN)
    assert library.differs() is not None
    library.bench.sql("update documents set digested_at = digested_at + interval '3 seconds'")
    assert library.differs() is None
    assert digested == ["a.txt"]


def test_a_file_written_at_the_moment_of_the_scan_and_gone_at_the_next_is_gone(library: Library, bench: Bench) -> None:
    library.write("a.txt", "text", when=time.time())
    library.write("b.txt", "text")
    library.scan()
    library.bench.sql(READ_AS_WRITTEN)
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
    assert bench.sql("select document from records") == [{"document": "stays.txt"}]


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


def expire(bench: Bench, *keys: str) -> set[str]:
    return set(bench.ledger.run(documents.expired_keys, keys))


def ten_minutes_later(bench: Bench) -> None:
    bench.sql("update typed_keys set first_seen = first_seen - interval '10 minutes'")
    bench.sql("update documents set gone_at = gone_at - interval '10 minutes'")


@pytest.mark.rule("library-4")
def test_a_typed_key_expires_after_two_scans_and_ten_minutes(bench: Bench) -> None:
    assert expire(bench, "typed.txt") == set()
    ten_minutes_later(bench)
    assert expire(bench, "typed.txt") == set(), "only two scans have seen it"
    assert expire(bench, "typed.txt") == {"typed.txt"}
    assert expire(bench, "typed.txt") == set(), "typed again"
    assert expire(bench, "typed.txt") == set()
    assert expire(bench, "typed.txt") == set(), "ten minutes are not over"


@pytest.mark.rule("library-4")
def test_the_key_of_a_document_that_has_just_gone_expires_at_once_but_not_if_it_is_typed_again(bench: Bench) -> None:
    bench.put("gone.txt")
    bench.ledger.run(documents.mark_gone, ["gone.txt"])
    assert expire(bench, "gone.txt", "typed.txt") == {"gone.txt"}
    ten_minutes_later(bench)
    assert expire(bench, "gone.txt") == set()
    assert bench.sql("select key, scans from typed_keys") == [{"key": "gone.txt", "scans": 1}]


def test_a_key_that_was_removed_or_got_a_document_is_forgotten(bench: Bench) -> None:
    expire(bench, "typed.txt", "other.txt")
    ten_minutes_later(bench)
    expire(bench, "other.txt")
    assert bench.sql("select key from typed_keys") == [{"key": "other.txt"}]
    expire(bench)
    assert bench.sql("select key from typed_keys") == []


def test_documents_are_known_in_every_batch_of_a_scan(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "BATCH", 1)
    monkeypatch.setattr(scanning, "LOOKED_UP", 2)
    for number in range(5):
        library.write(f"{number}.txt", f"text {number}")
    assert library.scan().added == 5
    for number in range(5):
        library.write(f"{number}.txt", f"another text {number}", LONG_AGO + 1)
    (library.folder / "4.txt").unlink()
    library.write("new.txt", "text")
    report = library.scan()
    assert (report.added, report.changed, report.vanished) == (1, 4, 1)
