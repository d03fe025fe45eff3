"""Several workers extract together: they share the backlog, wait for each other, and one that is lost starts anew."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagster_offload.engine.extraction import run, together
from dagster_offload.engine.extraction.together import extract_together
from dagster_offload.errors import HostRefused, LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.work import claims
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.testing import ChangeTiming
from tests.support.engine import Engine
from tests.support.extraction import COUNT, BlockingExtractor, notes, states, written

RUN = "run-of-several-steps"


@pytest.mark.rule("hosts-1")
def test_several_steps_do_each_document_once(engine: Engine) -> None:
    written(engine, *notes())
    with ThreadPoolExecutor(3) as pool:
        steps = [pool.submit(extract_together, engine.settings(), engine.ledger, RUN) for _ in range(3)]
    assert sum(step.result().done for step in steps) == COUNT
    assert states(engine) == {"done": COUNT}
    (row,) = engine.sql("select count(*) as n from transitions where to_state = 'done' and stage = 'extract'")
    assert row["n"] == COUNT


@pytest.mark.rule("hosts-1")
def test_a_step_waits_for_what_another_step_of_its_run_holds_and_takes_it_over(engine: Engine) -> None:
    written(engine, *notes())
    settings, waits = engine.settings(), threading.Event()
    with Worker(engine.ledger, "extract", [EXTRACT], RUN) as other:
        held = engine.ledger.run(claims.take, other.id, [EXTRACT], {EXTRACT: "a recipe"}, count=5)
        with ThreadPoolExecutor(1) as pool:

            def note_rest() -> None:
                if states(engine) == {"done": COUNT - 5, "claimed": 5}:
                    waits.set()

            step = pool.submit(extract_together, settings, engine.ledger, RUN, stop_if_ended=note_rest)
            assert waits.wait(240)
            assert not step.done()
            for claim in held:
                engine.ledger.run(claims.release, other.id, claim, "the test gives it back")
            assert step.result(240).done == COUNT
    assert states(engine) == {"done": COUNT}


def test_a_step_does_not_wait_for_a_scan_that_reads_a_long_book(engine: Engine) -> None:
    written(engine, *notes())
    with Worker(engine.ledger, "scan", [EXTRACT], "another run") as scan:
        engine.ledger.run(claims.take, scan.id, [EXTRACT], {EXTRACT: "a recipe"}, count=5)
        assert extract_together(engine.settings(), engine.ledger, RUN).done == COUNT - 5


@pytest.mark.rule("hosts-3")
def test_a_step_that_was_cut_off_registers_anew_and_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, blocking: BlockingExtractor
) -> None:
    written(engine, "slow.txt", *notes())
    workers: list[int] = []

    def cut_off_once(_settings: object, ledger: Ledger, worker: Worker, *rest: object) -> bool:
        workers.append(worker.id)
        if len(workers) == 1:
            engine.ledger.run(claims.take, worker.id, [EXTRACT], {EXTRACT: "a recipe"}, count=3)
            raise LedgerUnavailable("Postgres stays unavailable: the test cut the network")
        return extract(_settings, ledger, worker, *rest)  # type: ignore[arg-type]

    extract = together._extract_until_lost
    monkeypatch.setattr(together, "_extract_until_lost", cut_off_once)
    blocking.is_open.set()
    assert extract_together(engine.settings(), engine.ledger, RUN).done == COUNT + 1
    assert len(set(workers)) == 2
    assert states(engine) == {"done": COUNT + 1}


def test_a_step_that_stays_cut_off_fails(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, change_timing: ChangeTiming
) -> None:
    def cut_off(*_: object) -> bool:
        raise LedgerUnavailable("Postgres stays unavailable")

    change_timing(cut_off=0.0)
    monkeypatch.setattr(together, "_extract_until_lost", cut_off)
    with pytest.raises(LedgerUnavailable):
        extract_together(engine.settings(), engine.ledger, RUN)


@pytest.mark.rule("hosts-3")
def test_a_worker_that_was_reclaimed_registers_anew(engine: Engine, blocking: BlockingExtractor) -> None:
    written(engine, "slow.txt")
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(extract_together, engine.settings(), engine.ledger, RUN)
        assert blocking.is_reached.wait(240)
        engine.sql(
            "with lost as (update workers set ended_at = clock_timestamp(), was_reclaimed = true returning worker_id) "
            "update work_items i set state = 'pending' from lost where i.worker_id = lost.worker_id returning item_id"
        )
        blocking.is_open.set()
        step.result(240)
    assert states(engine) == {"done": 1}
    (row,) = engine.sql("select count(*) as n from workers where kind = 'extract'")
    assert row["n"] >= 2


@pytest.mark.rule("hosts-2")
def test_a_host_that_loses_the_library_stops_and_postpones_nothing(
    engine: Engine, blocking: BlockingExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(run, "WATCH_SECONDS", 0.0)
    written(engine, "slow.txt", *notes())
    elsewhere: Path = engine.library.with_name("elsewhere")
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(extract_together, engine.settings(), engine.ledger, RUN)
        assert blocking.is_reached.wait(240)
        engine.library.rename(elsewhere)
        blocking.is_open.set()
        with pytest.raises(HostRefused, match="can no longer be reached"):
            step.result(240)
    assert states(engine)["pending"] > 0
    assert engine.sql("select 1 from work_items where attempts > 0 or not_before is not null") == []
