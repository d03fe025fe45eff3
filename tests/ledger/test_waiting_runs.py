"""Waiting runs: what each one waits for, when its documents are done, and which rows are removed."""

from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.work import waiting_runs
from dagster_offload.ledger.work.waiting_runs import WaitingRun
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.ledger import Bench
from tests.support.stages import DRAIN_STAGES


def wait(bench: Bench, run: str, *documents: str, slot: str | None = DEEP) -> None:
    bench.ledger.run(waiting_runs.put, run, documents, DRAIN_STAGES, slot, "deep is unavailable: upstream_cold")


def found(bench: Bench, run: str) -> WaitingRun | None:
    return bench.ledger.run(waiting_runs.find, run)


def is_done(bench: Bench, run: str) -> bool:
    waiting = found(bench, run)
    assert waiting is not None
    return waiting.is_done


def finish(bench: Bench, document: str, stage: str) -> None:
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [stage], keys=[document]))


def test_a_run_that_waits_for_a_slot_shows_the_slots_breaker(bench: Bench) -> None:
    bench.extracted("a.txt")
    wait(bench, "one", "a.txt")
    assert found(bench, "one") == WaitingRun(
        "deep is unavailable: upstream_cold", DEEP, BreakerState.CLOSED, is_done=False
    )
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    waiting = found(bench, "one")
    assert waiting is not None
    assert waiting.breaker is BreakerState.OPEN


def test_a_run_that_waits_for_another_worker_has_no_breaker(bench: Bench) -> None:
    bench.extracted("a.txt")
    wait(bench, "one", "a.txt", slot=None)
    waiting = found(bench, "one")
    assert waiting is not None
    assert (waiting.slot, waiting.breaker) == (None, None)


def test_a_run_is_done_when_every_stage_of_every_document_has_its_result(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt", "c.txt")
    wait(bench, "one", "a.txt", "b.txt")
    finish(bench, "a.txt", CLASSIFY)
    finish(bench, "a.txt", SUMMARIZE)
    finish(bench, "b.txt", CLASSIFY)
    assert not is_done(bench, "one")
    finish(bench, "b.txt", SUMMARIZE)
    assert is_done(bench, "one")


def test_a_document_without_a_text_yet_is_not_done(bench: Bench) -> None:
    bench.put("new.txt")
    wait(bench, "one", "new.txt")
    assert not is_done(bench, "one")


def test_a_second_wait_replaces_the_first(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    wait(bench, "one", "a.txt")
    wait(bench, "one", "b.txt", slot=None)
    assert bench.ledger.run(waiting_runs.documents_of, "one") == (["b.txt"], list(DRAIN_STAGES))


def test_a_run_that_does_not_wait_is_not_found(bench: Bench) -> None:
    bench.extracted("a.txt")
    wait(bench, "one", "a.txt")
    bench.ledger.run(waiting_runs.remove, "one")
    assert found(bench, "one") is None
    assert bench.ledger.run(waiting_runs.documents_of, "one") == ([], [])


def test_rows_of_ended_runs_are_removed_after_an_hour(bench: Bench) -> None:
    bench.extracted("a.txt")
    for run in ("alive", "over", "young"):
        wait(bench, run, "a.txt")
    bench.sql("update waiting_runs set since = since - interval '2 hours' where run_id <> 'young'")
    bench.ledger.run(waiting_runs.forget_others, ["alive"])
    assert [row["run_id"] for row in bench.sql("select run_id from waiting_runs order by run_id")] == ["alive", "young"]
