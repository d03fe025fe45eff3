"""Commands that only a person gives: retry, redo, redo of outdated work."""

import pytest

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.work import redo
from dagster_offload.ledger.work.redo import Redo
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import RECIPES, Bench, record_result
from tests.support.stages import DRAIN_STAGES


def fail(bench: Bench, key: str) -> None:
    worker = bench.worker()
    bench.fail(worker, bench.hold(worker, [CLASSIFY], keys=[key]), is_final=True)


def test_retry_sets_failed_work_to_pending_with_all_its_attempts(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt", "c.txt")
    fail(bench, "a.txt")
    fail(bench, "b.txt")
    assert bench.ledger.run(redo.retry, DRAIN_STAGES, documents=["a.txt", "c.txt"]) == [("a.txt", CLASSIFY)]
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["must_run_alone"]) == (State.PENDING, 0, False)
    assert bench.state("b.txt", CLASSIFY) == State.FAILED
    assert bench.ledger.run(redo.retry, [SUMMARIZE]) == []
    assert bench.ledger.run(redo.retry, DRAIN_STAGES, [State.QUARANTINED]) == []


@pytest.mark.rule("ledger-10")
def test_a_retry_ends_the_wait_for_the_next_attempt_and_gives_all_attempts(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt", "c.txt")
    worker = bench.worker()
    for key in ("a.txt", "b.txt"):
        bench.fail(worker, bench.hold(worker, [CLASSIFY], keys=[key]), is_final=False)
    code = next(iter(bench.ledger.run(redo.reasons)))
    assert bench.ledger.run(redo.end_waits, DRAIN_STAGES, ["a.txt", "c.txt"], code) == [("a.txt", CLASSIFY)]
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["not_before"]) == (State.PENDING, 0, None)
    assert bench.item("b.txt", CLASSIFY)["attempts"] == 1
    assert bench.ledger.run(redo.end_waits, DRAIN_STAGES, reason="another") == []
    assert bench.ledger.run(redo.end_waits, DRAIN_STAGES) == [("b.txt", CLASSIFY)]


def test_retry_cannot_help_a_file_that_cannot_be_read(bench: Bench) -> None:
    bench.put("locked.txt", unreadable="unreadable: Permission denied")
    assert bench.ledger.run(redo.retry, [EXTRACT]) == []
    assert bench.state("locked.txt", EXTRACT) == State.FAILED


def test_redo_affects_only_done_work(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    assert bench.redo(DRAIN_STAGES, ["a.txt", "b.txt"]) == 1
    assert bench.state("a.txt", CLASSIFY) == State.PENDING


@pytest.mark.rule("ledger-6")
def test_a_changed_recipe_counts_as_outdated_and_is_redone_only_by_command(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    for _ in range(2):
        bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    changed = RECIPES | {CLASSIFY: "c2"}
    counts = bench.ledger.run(status.stage_counts, changed)[CLASSIFY]
    assert (counts.done, counts.outdated, counts.pending) == (2, 2, 0)
    (estimate,) = bench.ledger.run(redo.estimate, Redo(changed, only_outdated=True))
    assert (estimate.stage, estimate.documents) == (CLASSIFY, 2)
    assert estimate.hours is not None
    assert abs(estimate.hours - 3.0 / 3600) < 1e-6
    assert bench.ledger.run(redo.redo, Redo(changed, only_outdated=True)) == 2
    assert bench.state("a.txt", CLASSIFY) == State.PENDING
    assert len(bench.sql("select 1 from results where stage = 'classify' and superseded_at is null")) == 2


def test_going_back_to_an_old_recipe_reuses_its_results(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]), result=record_result("by c1"))
    bench.sql("update work_items set recipe = 'c2' where stage = 'classify'")
    bench.ledger.run(redo.redo, Redo(RECIPES, only_outdated=True))
    assert bench.hold(worker, [CLASSIFY]).items == ()
    assert bench.state("a.txt", CLASSIFY) == State.DONE


def test_without_outdated_work_there_is_nothing_to_redo(bench: Bench) -> None:
    bench.extracted("a.txt")
    assert bench.ledger.run(redo.estimate, Redo(RECIPES, only_outdated=True)) == []
    assert bench.ledger.run(redo.redo, Redo(RECIPES, only_outdated=True)) == 0
