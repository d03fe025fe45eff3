"""From scanned pages to a record by OCR: pages are kept, and a later installation or language outdates no text."""

import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import scan
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import Claim, ClaimedItem
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.explanation import explain
from dagster_offload.ledger.work import ocr_pages, redo
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from dagster_offload.testing import ChangeTiming
from tests.support.acceptance import wait_for
from tests.support.engine import Engine
from tests.support.ocr import LANGUAGES, SCANS, share_kept
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.tesseract


def put(engine: Engine, name: str) -> None:
    shutil.copy(SCANS / name, engine.library / name)


def text_of(engine: Engine, document: str) -> str:
    found = engine.sql(
        "select text from results join work_items using (result_id) join documents using (document_id) "
        "where key = %s and work_items.stage = 'extract'",
        document,
    )
    return str(found[0]["text"])


def pages_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The document and number of each page from now on, in the order in which OCR has read them."""
    read: list[tuple[str, int]] = []
    keep = ocr_pages.keep

    def note(
        cur: Cursor, worker_id: int, claim: Claim, item: ClaimedItem, page: ocr_pages.ReadPage
    ) -> tuple[int, int, float]:
        read.append((claim.document, page.number))
        return keep(cur, worker_id, claim, item, page)

    monkeypatch.setattr(ocr_pages, "keep", note)
    return read


def extracted_in_order(engine: Engine) -> list[str]:
    rows = engine.sql(
        "select key from transitions join documents using (document_id) where stage = 'extract' and to_state = 'done' "
        "order by transition_id"
    )
    return [row["key"] for row in rows]


@pytest.mark.rule("extract-1")
def test_ordinary_files_are_read_before_the_pages_of_scans(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # a second lane could keep a page while the last letter is read
    for name in ("fax.tif", "korean.png", "letters.pdf"):
        put(engine, name)
    letters = [f"z-letter-{number}.txt" for number in range(5)]
    for name in letters:  # found last, read first
        (engine.library / name).write_text(f"This is {name}.")
    read = pages_read(monkeypatch)
    texts_at_first_page: list[int] = []

    def watch(counts: ProgressCounts) -> None:
        if counts.reading is not None:
            texts_at_first_page.append(counts.done)

    settings = engine.settings()
    scan(settings, engine.ledger)
    counts = run_extraction(settings, engine.ledger, on_progress=watch)
    assert (counts.done, counts.failed) == (8, 0)
    assert texts_at_first_page[0] == 5
    assert set(extracted_in_order(engine)[:5]) == set(letters)
    assert sorted(read) == [("fax.tif", 1), ("fax.tif", 2), ("korean.png", 1), ("letters.pdf", 1), ("letters.pdf", 2)]


@pytest.mark.rule("extract-1")
def test_a_letter_that_arrives_during_ocr_is_read_before_the_next_pages(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    change_timing(extraction_idle=0.01)
    put(engine, "letters.pdf")
    put(engine, "fax.tif")
    looked: list[bool] = []

    def look_for_files() -> None:
        if not looked:
            (engine.library / "z.txt").write_text("A letter.")
            scan(engine.settings(), engine.ledger)
        looked.append(True)

    keep = ocr_pages.keep
    letter_is_claimed = (
        "select 1 from work_items join documents using (document_id) "
        "where key = %s and work_items.stage = %s and state <> 'pending'"
    )

    def keep_when_the_letter_is_claimed(*given: Any) -> Any:
        wait_for(lambda: bool(engine.sql(letter_is_claimed, "z.txt", EXTRACT)), "the claim of the letter")
        return keep(*given)

    monkeypatch.setattr(ocr_pages, "keep", keep_when_the_letter_is_claimed)
    settings = engine.settings(scan_interval=1)
    scan(settings, engine.ledger)
    run_extraction(settings, engine.ledger, look_for_files=look_for_files)
    assert looked
    order = extracted_in_order(engine)
    assert sorted(order) == ["fax.tif", "letters.pdf", "z.txt"]
    assert order[-1] != "z.txt"


@pytest.mark.rule("extract-1")
def test_the_pages_of_one_scan_are_read_by_all_lanes(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    put(engine, "letters.pdf")
    lanes: set[str] = set()
    each_has_a_page = threading.Barrier(2)
    keep = ocr_pages.keep

    def both(*given: Any) -> Any:
        name = threading.current_thread().name
        if name not in lanes:
            lanes.add(name)
            each_has_a_page.wait(PATIENCE_SECONDS)
        return keep(*given)

    monkeypatch.setattr(ocr_pages, "keep", both)
    engine.scan()
    assert len(lanes) == 2
    text = text_of(engine, "letters.pdf")
    assert text.index("Larkfield") < text.index("늘봄아파트")


def test_the_pages_left_are_known_before_ocr_begins(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    put(engine, "letters.pdf")
    (engine.library / "note.txt").write_text("Paid 12 EUR")
    scan(engine.settings(), engine.ledger)

    class Stopped(BaseException):
        pass

    def stop(counts: ProgressCounts) -> None:
        raise Stopped  # when the note is done

    with pytest.raises(Stopped):
        run_extraction(engine.settings(), engine.ledger, on_progress=stop)
    left = engine.ledger.run(ocr_pages.left)
    assert (left.documents, left.pages, left.hours) == (1, 2, None)
    assert engine.sql("select 1 from transitions where reason = 'waits for OCR of 2 pages'")
    engine.sql("insert into ocr_rates values ('host', 10, 60, 2, now())")
    left = engine.ledger.run(ocr_pages.left)
    assert (left.pages_per_minute, left.hours) == (20, 2 / 20 / 60)


def without_tesseract(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[], None]:
    """Hide Tesseract until the returned function is called."""
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(folder))
    return lambda: monkeypatch.setenv("PATH", path)


def test_a_scan_in_english_and_korean_becomes_a_record(engine: Engine) -> None:
    put(engine, "letters.pdf")
    engine.scan()
    text = text_of(engine, "letters.pdf")
    assert share_kept(text, "english.txt") > 0.95
    assert share_kept(text, "korean.txt") > 0.85
    assert text.index("Larkfield") < text.index("늘봄아파트")
    assert engine.drain().done == 1
    (record,) = engine.sql("select title, category, summary from records")
    assert record["title"] == "Larkfield Water Company"
    assert record["category"] is not None
    assert record["summary"]
    assert engine.sql("select * from ocr_pages") == []


def test_progress_reports_each_page_and_the_pages_a_minute(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    put(engine, "fax.tif")
    seen: list[str] = []

    def watch(counts: ProgressCounts) -> None:
        if counts.reading is not None:
            assert counts.reading.pages_per_minute is not None
            assert counts.reading.pages_per_minute > 0
            seen.append(f"{counts.reading.document} {counts.reading.done} of {counts.reading.total}")
            seen.append(str([(read.done, read.total) for read in engine.ledger.run(status.in_parts)]))

    scan(engine.settings(), engine.ledger)
    run_extraction(engine.settings(), engine.ledger, on_progress=watch)
    assert seen[:4] == ["fax.tif 1 of 2", "[(1, 2)]", "fax.tif 2 of 2", "[(2, 2)]"]


def test_a_stopped_scan_continues_at_the_page_it_had_reached(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    put(engine, "letters.pdf")
    scan(engine.settings(), engine.ledger)

    class Stopped(BaseException):
        pass

    def stop(counts: ProgressCounts) -> None:
        if counts.reading is not None:
            raise Stopped

    with pytest.raises(Stopped):
        run_extraction(engine.settings(), engine.ledger, on_progress=stop)
    assert [row["page"] for row in engine.sql("select page from ocr_pages")] == [1]

    read = pages_read(monkeypatch)
    run_extraction(engine.settings(), engine.ledger)
    assert read == [("letters.pdf", 2)]
    assert share_kept(text_of(engine, "letters.pdf"), "english.txt") > 0.95


def test_tesseract_installed_later_is_used_after_a_redo(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("korean.png", "typed_scanned_typed.pdf"):
        put(engine, name)
    (engine.library / "note.txt").write_text("Paid 12 EUR")
    install = without_tesseract(monkeypatch, tmp_path)
    engine.scan()
    assert engine.item("korean.png", EXTRACT)["outcome"] == "needs_ocr"
    assert engine.item("korean.png", SUMMARIZE)["outcome"] == "needs_ocr"
    explained = engine.ledger.run(explain, "korean.png")
    assert explained is not None
    assert "apt-get install tesseract-ocr tesseract-ocr-kor" in (explained.items[0].extract_reason or "")
    assert engine.drain().done == 2  # the note and the typed document

    install()
    engine.scan()
    assert engine.item("korean.png", EXTRACT)["outcome"] == "needs_ocr"  # no document is redone automatically
    assert engine.ledger.run(redo.estimate_ocr, LANGUAGES) == redo.OcrEstimate(documents=2, pages=2)
    assert engine.ledger.run(redo.redo_ocr, LANGUAGES) == 2
    engine.scan()
    for stage in (CLASSIFY, SUMMARIZE):
        counts = engine.counts(stage)
        assert (counts.pending, counts.done) == (2, 1)
    assert share_kept(text_of(engine, "typed_scanned_typed.pdf"), "english.txt") > 0.95
    assert engine.drain().done == 2
    assert engine.ledger.run(redo.estimate_ocr, LANGUAGES).documents == 0


def test_changed_languages_outdate_no_text_and_texts_read_in_others_can_be_redone(engine: Engine) -> None:
    put(engine, "korean.png")
    (engine.library / "note.txt").write_text("Paid 12 EUR")
    engine.scan()
    assert recipes(engine.settings(ocr_languages="eng")) == recipes(engine.settings())
    assert engine.counts(EXTRACT, ocr_languages="eng").outdated == 0
    assert engine.ledger.run(redo.estimate_ocr, "eng") == redo.OcrEstimate(documents=1, pages=1)


def test_a_page_that_hangs_is_a_fault_of_its_document_only(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = shutil.which("tesseract")
    hanging = tmp_path / "bin" / "tesseract"
    hanging.parent.mkdir()
    hanging.write_text(f'#!/bin/sh\ncase "$1" in --*) exec {real} "$@";; esac\nexec sleep 1000\n')
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hanging.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(
        "dagster_offload.engine.extraction.pool.Extractor", lambda **given: Extractor(**given, page_limit_seconds=1)
    )
    put(engine, "letters.pdf")
    (engine.library / "note.txt").write_text("Paid 12 EUR")
    engine.scan()
    item = engine.item("letters.pdf", EXTRACT)
    assert (item["state"], item["attempts"]) == ("pending", 1)
    assert re.search("page [12] of 2", item["reason"])  # two pages are read at once if there are two cores
    assert engine.item("note.txt", EXTRACT)["state"] == "done"
