"""Files that cannot be read: which of them wait, which fail, and that none blocks another."""

import errno
import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_offload.engine.extraction import pool
from dagster_offload.engine.extraction.run import run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import scan
from dagster_offload.errors import ChangedWhileRead, ExtractionFailed
from dagster_offload.extraction import extractor
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.host.python_process import python_command
from dagster_offload.ledger.work import documents
from dagster_offload.ledger.work.finish import output_digest
from dagster_offload.library.digests import locate
from dagster_offload.stages.graph import EXTRACT, Outcome
from tests.support.engine import Engine
from tests.support.extraction import COUNT, BlockingExtractor, notes, states, written


def test_a_row_that_postgres_refuses_does_not_affect_its_neighbours(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(engine, *notes())
    real = output_digest
    monkeypatch.setattr(
        pool,
        "output_digest",
        lambda outcome, text: "\0" if text == f"{COUNT - 1:03}.txt" else real(outcome, text),
    )
    with pytest.raises(psycopg.DataError):
        run_extraction(engine.settings(), engine.ledger)
    assert states(engine) == {"done": COUNT - 1, "pending": 1}


def test_a_name_that_the_system_accepts_only_in_another_form_blocks_no_document(
    engine: Engine, blocking: BlockingExtractor
) -> None:
    written(engine, *notes()[:40], "\ufb2c" * 80 + ".txt")  # in normal form too long for a name
    assert run_extraction(engine.settings(), engine.ledger).done == 41
    assert states(engine) == {"done": 41}


def test_a_file_that_cannot_be_located_waits_and_blocks_no_document(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(library: Path, key: str) -> Path | None:
        if key == "closed/a.txt":
            raise PermissionError(13, "Permission denied")
        return locate(library, key)

    (engine.library / "closed").mkdir()
    written(engine, *notes()[:40], "closed/a.txt")
    monkeypatch.setattr(pool, "locate", refusing)
    assert run_extraction(engine.settings(), engine.ledger).done == 40
    item = engine.item("closed/a.txt", EXTRACT)
    assert (item["state"], item["attempts"]) == ("pending", 0)
    assert item["reason"] == "waits for the next scan: Permission denied"


@pytest.mark.rule("library-7")
def test_a_fault_of_this_machine_is_no_document_fault_and_blocks_no_other_document(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full while one file is read."""
    written(engine, "a.txt", "b.txt")
    (engine.library / "broken.pdf").write_bytes(b"%PDF-1.7 this is no pdf")
    scan(engine.settings(), engine.ledger)
    monkeypatch.setattr(
        extractor, "python_command", lambda *arguments: python_command("-c", CHILD_ON_A_FULL_DISK, *arguments[2:])
    )
    counts = run_extraction(engine.settings(), engine.ledger)
    assert counts.done == 2
    assert "TMPDIR" in str(counts.machine_fault)
    item = engine.item("broken.pdf", EXTRACT)
    assert (item["state"], item["attempts"]) == ("pending", 0)
    assert item["reason"].startswith("waits: no space left on device: set TMPDIR")
    monkeypatch.undo()
    engine.sql("update work_items set not_before = null returning item_id")
    assert run_extraction(engine.settings(), engine.ledger).failed == 1  # now it is a document fault


CHILD_ON_A_FULL_DISK = """
import errno
from dagster_offload.extraction import child
read_file = child.read_file
def with_a_full_disk(data, *arguments):
    if data.startswith(b"%PDF"):
        raise OSError(errno.ENOSPC, "No space left on device")
    return read_file(data, *arguments)
child.read_file = with_a_full_disk
child.main()
"""
NEVER_CHANGED = 1_600_000_000  # a file time so old that no scan considers the file just written


def unreadable_from_now_on(blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def raising(*_given: Any, **_options: Any) -> Extracted:
        raise error

    monkeypatch.setattr(blocking, "extract", raising)


def extracted_once(engine: Engine) -> ProgressCounts:
    engine.sql("update work_items set not_before = null returning 1")
    scan(engine.settings(), engine.ledger)
    return run_extraction(engine.settings(), engine.ledger)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            OSError(errno.EIO, "Input/output error"),
            "unreadable: Input/output error (EIO), and the file has not changed since the last scan: "
            "check its disk and its permissions, then retry it",
        ),
        (
            ChangedWhileRead("a.txt"),
            "unreadable: the file's bytes differ from those of the last scan, and its size and times do not: "
            "check its disk, save the file again, then scan",
        ),
    ],
    ids=["read error", "other bytes"],
)
def test_an_unchanged_file_that_cannot_be_read_fails_after_three_attempts(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    written(engine, "a.txt")
    os.utime(engine.library / "a.txt", (NEVER_CHANGED, NEVER_CHANGED))
    unreadable_from_now_on(blocking, monkeypatch, error)
    for attempts, state in [(1, "pending"), (2, "pending"), (3, "failed")]:
        assert extracted_once(engine).failed == (state == "failed")
        item = engine.item("a.txt", EXTRACT)
        assert (item["attempts"], item["state"], item["reason"]) == (attempts, state, reason)
    assert extracted_once(engine).total == 0


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ChangedWhileRead("a.txt")], ids=repr)
def test_a_changed_file_that_cannot_be_read_waits_for_the_next_scan(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    written(engine, "changed.txt", "removed.txt", "just-written.txt")
    for name in ("changed.txt", "removed.txt"):
        os.utime(engine.library / name, (NEVER_CHANGED, NEVER_CHANGED))
    scan(engine.settings(), engine.ledger)
    # Within this time of a scan a file may change again without a change of its stat.
    engine.sql(
        "update documents set digested_at = to_timestamp(mtime_ns / 1e9) where key = 'just-written.txt' returning 1"
    )

    def changing(path: Path, *_given: Any, **_options: Any) -> Extracted:
        if path.name == "changed.txt":
            os.utime(path, (NEVER_CHANGED + 1, NEVER_CHANGED + 1))
        if path.name == "removed.txt":
            path.unlink()
        raise error

    monkeypatch.setattr(blocking, "extract", changing)
    run_extraction(engine.settings(), engine.ledger)
    for name in ("changed.txt", "removed.txt", "just-written.txt"):
        item = engine.item(name, EXTRACT)
        assert (item["state"], item["attempts"]) == ("pending", 0)
        assert item["reason"].startswith("waits for the next scan: ")


def test_a_document_that_crashes_its_reader_is_reported_as_to_be_retried(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def extract(path: Path, *_given: Any, **_options: Any) -> Extracted:
        if path.stem == "panics":
            raise ExtractionFailed("extraction_crash", "the extractor crashed on this file (PanicException)")
        return Extracted(Outcome.OK, path.name)

    monkeypatch.setattr(blocking, "extract", extract)
    written(engine, "panics.txt", "letter.txt")
    counts = run_extraction(engine.settings(), engine.ledger)
    assert (counts.done, counts.failed) == (1, 0)
    waiting = engine.ledger.run(documents.waiting_for_text, 10)
    assert list(waiting.reasons) == ["panics.txt"]
    assert "the extractor crashed on this file (PanicException)" in waiting.reasons["panics.txt"]
    assert (engine.ledger.run(documents.waiting_for_text, 0).count, waiting.count) == (1, 1)
    for _attempt in range(2):
        engine.sql("update work_items set not_before = null")
        counts = run_extraction(engine.settings(), engine.ledger)
    assert (counts.failed, engine.ledger.run(documents.waiting_for_text, 10).count) == (1, 0)
