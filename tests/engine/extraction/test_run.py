"""Extraction uses all cores and stores texts in groups: no text is lost, and no claim is held for long."""

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dagster_offload.engine.extraction import pool, run
from dagster_offload.engine.extraction.run import extract_due, run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.engine.scan import scan
from dagster_offload.errors import ChangedWhileRead, ExtractionFailed
from dagster_offload.extraction import extractor
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.host.python_process import python_command
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import documents
from dagster_offload.ledger.work.finish import output_digest
from dagster_offload.library.digests import locate
from dagster_offload.stages.graph import EXTRACT, Outcome
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.stages import DRAIN_STAGES

COUNT = 60


class BlockingExtractor:
    """Extractors that block on a file named `slow` until `is_open` is set. All other files are quick."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def extractor(self, **_options: Any) -> "BlockingExtractor":
        return self

    def extract(self, path: Path, *_given: Any, **_options: Any) -> Extracted:
        if path.stem == "slow":
            self.is_reached.set()
            assert self.is_open.wait(60)
        return Extracted(Outcome.OK, path.name)

    def close(self) -> None: ...

    def __enter__(self) -> "BlockingExtractor":
        return self

    def __exit__(self, *_exc: object) -> None: ...


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> Iterator[BlockingExtractor]:
    blocking = BlockingExtractor()
    monkeypatch.setattr(pool, "Extractor", blocking.extractor)
    yield blocking
    blocking.is_open.set()


def written(engine: Engine, *keys: str) -> None:
    for key in keys:
        (engine.library / key).write_text(f"This is {key}, a note of some length for those who read it.")
    scan(engine.settings(), engine.ledger)


def notes() -> list[str]:
    return [f"{number:03}.txt" for number in range(COUNT)]


def claimed(engine: Engine) -> list[str]:
    rows = engine.sql(
        "select d.key from work_items i join documents d using (document_id) where i.state = 'claimed' order by d.key"
    )
    return [row["key"] for row in rows]


def states(engine: Engine) -> dict[str, int]:
    rows = engine.sql("select state, count(*) as n from work_items where stage = 'extract' group by state")
    return {row["state"]: row["n"] for row in rows}


def test_texts_are_stored_in_groups_and_each_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    # The groups of a slow machine are small: it claims less ahead, and fewer texts come in the time that one waits.
    monkeypatch.setattr(run, "AHEAD_SECONDS", 60.0)
    monkeypatch.setattr(run, "GROUP_WAIT_SECONDS", 60.0)
    written(engine, *notes())
    seen: list[int] = []
    counts = run_extraction(engine.settings(), engine.ledger, on_progress=lambda counts: seen.append(counts.done))
    assert (counts.total, counts.done, counts.failed) == (COUNT, COUNT, 0)
    assert seen == sorted(seen)
    assert seen[-1] == COUNT
    (row,) = engine.sql(
        "select count(*) as n, count(distinct first_document) as documents, count(distinct xmin::text) as groups from results"
    )
    assert (row["n"], row["documents"]) == (COUNT, COUNT)
    assert row["groups"] < COUNT / 2
    for stage in DRAIN_STAGES:
        assert engine.counts(stage).pending == COUNT


def test_an_interruption_releases_all_claims_and_the_next_run_does_the_rest(engine: Engine) -> None:
    written(engine, *notes())

    class Stopped(BaseException):
        pass

    def stop(counts: ProgressCounts) -> None:
        if counts.done >= 10:
            raise Stopped

    with pytest.raises(Stopped):
        run_extraction(engine.settings(), engine.ledger, on_progress=stop)
    before = states(engine)
    assert set(before) == {"done", "pending"}
    assert engine.sql("select distinct reclaims, lone_deaths, must_run_alone from work_items") == [
        {"reclaims": 0, "lone_deaths": 0, "must_run_alone": False}
    ]
    assert run_extraction(engine.settings(), engine.ledger).done == before["pending"]
    assert states(engine) == {"done": COUNT}
    assert len(engine.sql("select 1 from results")) == COUNT


def test_during_a_long_document_no_claim_is_held_that_no_lane_reads(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    change_timing(extraction_idle=0.05)
    written(engine, *notes(), "slow.txt", "z.txt")
    extraction = engine.beside(run_extraction, engine.settings(), engine.ledger)
    assert blocking.is_reached.wait(60)
    engine.wait_until(
        "select 1 from work_items having count(*) filter (where state = 'claimed') = 1"
        " and count(*) filter (where stage = 'extract' and state = 'done') = 60"
    )
    assert claimed(engine) == ["slow.txt"]
    blocking.is_open.set()
    assert extraction.result().done == COUNT + 2
    assert states(engine) == {"done": COUNT + 2}


def test_documents_released_by_slow_lanes_are_claimed_again_and_read(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    change_timing(extraction_idle=0.05)
    may_begin, work, all_lanes = threading.Event(), pool.TextLanes._work, list[pool.TextLanes]()

    def late(lanes: pool.TextLanes, extractor: Any) -> None:
        all_lanes.append(lanes)
        assert may_begin.wait(60)
        work(lanes, extractor)

    monkeypatch.setattr(pool.TextLanes, "_work", late)
    written(engine, "a.txt")
    extraction = engine.beside(run_extraction, engine.settings(), engine.ledger)
    engine.wait_until("select 1 from transitions where reason = 'not started'")
    may_begin.set()
    try:
        assert extraction.result().done == 1
    finally:
        for lanes in all_lanes:
            lanes._ended.put(TimeoutError("the test is over"))
    assert states(engine) == {"done": 1}


def test_a_lost_worker_starts_no_document(engine: Engine, blocking: BlockingExtractor) -> None:
    written(engine, *notes())
    with Worker(engine.ledger, "scan", [EXTRACT]) as worker:

        def lose(_counts: ProgressCounts) -> None:
            worker.is_lost = True

        counts = extract_due(engine.settings(), engine.ledger, worker, on_progress=lose)
        assert 0 < counts.done < COUNT
        assert claimed(engine) == []


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
            "check its disk and its permissions, then dagster-offload retry",
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


def test_only_the_requested_documents_are_read(engine: Engine, blocking: BlockingExtractor) -> None:
    written(engine, "a.txt", "b.txt", "c.txt")
    with Worker(engine.ledger, "run", [EXTRACT]) as worker:
        assert extract_due(engine.settings(), engine.ledger, worker, ["a.txt", "c.txt"]).done == 2
    assert [engine.state(key, EXTRACT) for key in ("a.txt", "b.txt", "c.txt")] == ["done", "pending", "done"]


def test_a_document_that_must_run_alone_has_none_beside_it(engine: Engine, blocking: BlockingExtractor) -> None:
    written(engine, *notes(), "slow.txt", "z.txt")
    engine.sql(
        "update work_items i set must_run_alone = true from documents d "
        "where d.document_id = i.document_id and d.key >= '010.txt'"
    )
    extraction = engine.beside(run_extraction, engine.settings(), engine.ledger)
    assert blocking.is_reached.wait(60)
    assert states(engine) == {"done": COUNT, "claimed": 1, "pending": 1}
    assert engine.item("slow.txt", EXTRACT)["claimed_alone"]
    blocking.is_open.set()
    assert extraction.result().done == COUNT + 2


@pytest.mark.slow
def test_a_kill_loses_no_document_repeats_none_and_blames_none(engine: Engine) -> None:
    keys = [f"{number:03}.txt" for number in range(600)]
    written(engine, *keys)
    script = (
        "import sys, threading\n"
        "from dagster_offload.ledger.core.database import Ledger\n"
        "from dagster_offload.settings import load_settings\n"
        "from dagster_offload.engine.extraction.run import run_extraction\n"
        "def wait_for_the_kill(counts):\n"
        "    if counts.done >= 50: threading.Event().wait()\n"
        "settings = load_settings(library=sys.argv[2], home=sys.argv[3])\n"
        "run_extraction(settings, Ledger(sys.argv[1]), on_progress=wait_for_the_kill)\n"
    )
    home = engine.library.parent
    process = subprocess.Popen([sys.executable, "-c", script, engine.ledger.conninfo, str(engine.library), str(home)])
    engine.wait_until("select 1 from results having count(*) >= 50")
    process.kill()
    process.wait()
    before = states(engine)
    assert 0 < before["claimed"] <= 100
    (row,) = engine.sql("select worker_id from workers where ended_at is null")
    engine.die(row["worker_id"])
    assert states(engine) == {"done": before["done"], "pending": len(keys) - before["done"]}
    assert engine.sql("select max(reclaims) as most, max(lone_deaths) as alone from work_items") == [
        {"most": 1, "alone": 0}
    ]
    assert run_extraction(engine.settings(), engine.ledger).done == len(keys) - before["done"]
    assert states(engine) == {"done": len(keys)}
    assert engine.sql("select count(*) as n, count(distinct first_document) as documents from results") == [
        {"n": len(keys), "documents": len(keys)}
    ]
    assert len(engine.sql("select 1 from outbox")) == len(keys)


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


def test_the_seconds_of_an_extraction_are_recorded(engine: Engine) -> None:
    written(engine, "letter.txt")
    run_extraction(engine.settings(), engine.ledger)
    [row] = engine.sql("select seconds from results where stage = 'extract'")
    assert row["seconds"] > 0
