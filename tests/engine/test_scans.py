"""From scanned pages to a record by OCR: pages are kept, and a later installation or language outdates no text."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dagster_offload.engine.extract import run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import scan
from dagster_offload.extraction.extractor import Extractor
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import Claim, ClaimedItem
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import ocr_pages, redo
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.engine import Engine
from tests.support.ocr import LANGUAGES, SCANS, share_kept

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
    (record,) = engine.ledger.run(status.records)
    assert record.title == "Larkfield Water Company"
    assert record.category is not None
    assert record.summary
    assert engine.sql("select * from ocr_pages") == []


def test_progress_reports_each_page(engine: Engine) -> None:
    put(engine, "fax.tif")
    seen: list[str] = []

    def watch(counts: ProgressCounts) -> None:
        if counts.reading is not None:
            seen.append(f"{counts.reading.document} {counts.reading.done} of {counts.reading.total}")
            seen.append(str([(read.done, read.total) for read in engine.ledger.run(status.in_parts)]))

    scan(engine.settings(), engine.ledger)
    run_extraction(engine.settings(), engine.ledger, on_progress=watch)
    assert seen[:4] == ["fax.tif 1 of 2", "[(1, 2)]", "fax.tif 2 of 2", "[(2, 2)]"]


def test_a_stopped_scan_continues_at_the_page_it_had_reached(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
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

    read: list[int] = []
    begin = ocr_pages.begin

    def note(cur: Cursor, claim: Claim, item: ClaimedItem, page: int, of: int) -> None:
        read.append(page)
        begin(cur, claim, item, page, of)

    monkeypatch.setattr(ocr_pages, "begin", note)
    run_extraction(engine.settings(), engine.ledger)
    assert read == [2]
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
    explained = engine.ledger.run(status.explain, "korean.png")
    assert explained is not None
    assert "apt-get install tesseract-ocr tesseract-ocr-kor" in explained.items[0]["told"]
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
        "dagster_offload.engine.extract_pool.Extractor", lambda **given: Extractor(**given, page_limit_seconds=1)
    )
    put(engine, "letters.pdf")
    (engine.library / "note.txt").write_text("Paid 12 EUR")
    engine.scan()
    item = engine.item("letters.pdf", EXTRACT)
    assert (item["state"], item["attempts"]) == ("pending", 1)
    assert "page 1 of 2" in item["reason"]
    assert engine.item("note.txt", EXTRACT)["state"] == "done"
