"""Extraction uses all cores and stores texts in groups: no text is lost, and no claim is held for long."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.engine.extraction import pool, run
from dagster_offload.engine.extraction.run import extract_due, run_extraction
from dagster_offload.engine.progress import ProgressCounts
from dagster_offload.errors import OcrWanted
from dagster_offload.extraction.protocol import Extracted
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.extraction import COUNT, BlockingExtractor, claimed, notes, states, written
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES


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
    assert blocking.is_reached.wait(PATIENCE_SECONDS)
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
        assert may_begin.wait(PATIENCE_SECONDS)
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


def test_a_lost_worker_begins_no_page(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    change_timing(extraction_idle=0.05)
    written(engine, "book.txt")
    is_noticed, read, release = threading.Event(), list[int](), run._ResultWriter._release
    with Worker(engine.ledger, "scan", [EXTRACT]) as worker:

        class Book(BlockingExtractor):
            """A scanned book. When its first page is begun, the worker is lost."""

            def extract(self, path: Path, *_given: Any, pages: Sequence[int] = (), **_options: Any) -> Extracted:
                read.extend(pages)
                if pages:
                    worker.is_lost = True
                    assert is_noticed.wait(PATIENCE_SECONDS)
                raise OcrWanted((1, 2, 3), of=3)

        def note(writer: Any, claims: Any) -> None:
            release(writer, claims)
            if worker.is_lost:
                is_noticed.set()

        monkeypatch.setattr(pool, "Extractor", lambda **_options: Book())
        monkeypatch.setattr(run._ResultWriter, "_release", note)
        assert extract_due(engine.settings(), engine.ledger, worker).done == 0
    assert read == [1]
    assert states(engine) == {"pending": 1}
    assert engine.item("book.txt", EXTRACT)["attempts"] == 0


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
    assert blocking.is_reached.wait(PATIENCE_SECONDS)
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
    assert 0 < before["claimed"] <= (run.MOST_AHEAD_PER_LANE + 1) * (os.cpu_count() or 1)
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


def test_the_seconds_of_an_extraction_are_recorded(engine: Engine) -> None:
    written(engine, "letter.txt")
    run_extraction(engine.settings(), engine.ledger)
    [row] = engine.sql("select seconds from results where stage = 'extract'")
    assert row["seconds"] > 0
