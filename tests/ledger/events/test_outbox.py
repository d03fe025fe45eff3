"""The outbox: an event for every done item, oldest first, in doubt after a crash, reported under waiting runs too."""

from typing import Any

import pytest

from dagster_offload.ledger.core.rows import PendingObservation, State
from dagster_offload.ledger.events import outbox
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.support.ledger import Bench, record_result
from tests.support.stages import DRAIN_STAGES, STAGE_NAMES


def pending(bench: Bench, limit: int = 100) -> list[Any]:
    return bench.ledger.run(outbox.pending_events, STAGE_NAMES, limit)


def report(bench: Bench) -> list[Any]:
    events = pending(bench)
    bench.ledger.run(outbox.mark_reported, [event.event_id for event in events])
    return events


def test_every_done_item_has_an_event_with_all_its_metadata(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker, [CLASSIFY]))
    bench.close_breaker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]), result=record_result("words", epoch=2))
    extracted, deferred, classified = pending(bench)
    assert deferred.state == State.DEFERRED
    assert (extracted.document, extracted.stage, extracted.text_preview) == ("a.txt", EXTRACT, "text of a.txt")
    assert extracted.text_length == len("text of a.txt")
    assert (classified.stage, classified.value) == (CLASSIFY, {"category": "other", "summary": "words"})
    assert (classified.slot, classified.served_model, classified.seconds) == ("deep", "Qwen3.6-27B", 1.5)
    assert (classified.attempts, classified.deferrals, classified.reused_from) == (0, 1, None)


def test_a_preview_is_at_most_500_characters(bench: Bench) -> None:
    bench.extracted("a.txt", texts={"a.txt": "가" * 2000})
    (event,) = pending(bench)
    assert event.text_preview == "가" * 500
    assert event.text_length == 2000


def test_events_are_reported_oldest_first_in_batches_and_only_once(bench: Bench) -> None:
    bench.extracted(*[f"{n}.txt" for n in range(5)])
    assert [event.document for event in pending(bench, 2)] == ["0.txt", "1.txt"]
    bench.ledger.run(outbox.mark_reported, [event.event_id for event in pending(bench, 2)])
    assert [event.document for event in pending(bench, 9)] == ["2.txt", "3.txt", "4.txt"]
    assert bench.ledger.run(outbox.count_pending) == 3


def test_only_events_of_a_flusher_that_died_are_in_doubt(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    assert [event.is_in_doubt for event in pending(bench, 1)] == [False]
    assert [(event.document, event.is_in_doubt) for event in pending(bench)] == [("a.txt", True), ("b.txt", False)]


def test_one_flusher_runs_at_a_time_and_its_lock_ends_with_it(bench: Bench) -> None:
    with outbox.flushing(bench.ledger) as first:
        assert first
        with outbox.flushing(bench.ledger) as second:
            assert not second
    with outbox.flushing(bench.ledger) as third:
        assert third


def test_results_of_a_drain_are_also_reported_once_under_a_waiting_run(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    report(bench)
    keys = ["a.txt", "b.txt"]
    assert bench.ledger.run(outbox.report_under_run, "run-1", keys, DRAIN_STAGES) == 1
    assert bench.ledger.run(outbox.report_under_run, "run-1", keys, DRAIN_STAGES) == 0
    assert bench.ledger.run(outbox.report_under_run, "run-2", keys, DRAIN_STAGES) == 1
    assert [(event.document, event.run_id) for event in report(bench)] == [("a.txt", "run-1"), ("a.txt", "run-2")]
    assert bench.ledger.run(outbox.report_under_run, "run-1", keys, [EXTRACT]) == 2


def test_a_copy_reported_under_a_run_names_its_source(bench: Bench) -> None:
    bench.extracted("a.txt", "copy.txt", texts={"a.txt": "same", "copy.txt": "same"})
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    bench.take(worker, [CLASSIFY])
    report(bench)
    bench.ledger.run(outbox.report_under_run, "run-1", ["copy.txt"], [CLASSIFY])
    (event,) = report(bench)
    assert (event.document, event.reused_from) == ("copy.txt", "a.txt")


def test_a_redo_reports_its_new_result(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    first = report(bench)[-1]
    bench.redo([CLASSIFY], ["a.txt"])
    bench.finish(worker, bench.hold(worker, [CLASSIFY]), result=record_result("anew"))
    (again,) = report(bench)
    assert again.result_id != first.result_id
    assert again.output_digest != first.output_digest


def observed(bench: Bench) -> list[tuple[str, State]]:
    return [(event.stage, event.state) for event in report(bench) if isinstance(event, PendingObservation)]


def test_a_deferral_is_observed_with_its_reason_run_and_next_try(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.sql("update workers set run_id = 'run-1' where worker_id = %s", worker)
    bench.defer(worker, bench.hold(worker, [CLASSIFY]))
    (event,) = [event for event in report(bench) if isinstance(event, PendingObservation)]
    item = bench.item("a.txt", CLASSIFY)
    assert (event.document, event.stage, event.state, event.run_id) == ("a.txt", CLASSIFY, State.DEFERRED, "run-1")
    assert (event.reason, event.next_try, event.deferrals) == (item["reason"], item["not_before"], 1)


@pytest.mark.rule("ledger-12")
def test_the_same_deferral_is_observed_once_however_often_it_repeats(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    for _ in range(3):
        bench.defer(worker, bench.hold(worker, [CLASSIFY]))
        bench.make_due()
    assert observed(bench) == [(CLASSIFY, State.DEFERRED)]


def test_a_deferral_after_an_answer_is_observed_again(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker, [CLASSIFY]))
    bench.make_due()
    bench.finish(worker, bench.hold(worker, [CLASSIFY]))
    bench.redo([CLASSIFY], ["a.txt"])
    bench.defer(worker, bench.hold(worker, [CLASSIFY]))
    assert observed(bench) == [(CLASSIFY, State.DEFERRED)] * 2


def test_a_failure_is_observed_when_no_attempt_is_left(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.fail(worker, bench.hold(worker, [CLASSIFY]))
    assert observed(bench) == []
    bench.make_due()
    bench.fail(worker, bench.hold(worker, [CLASSIFY]), is_final=True)
    assert observed(bench) == [(CLASSIFY, State.FAILED)]


def test_a_file_that_cannot_be_read_is_observed_as_failed(bench: Bench) -> None:
    bench.put("a.txt", unreadable="cannot_read: Permission denied")
    assert observed(bench) == [(EXTRACT, State.FAILED)]


@pytest.mark.rule("ledger-12")
def test_a_fault_of_every_document_is_not_observed_as_a_failure_of_one(bench: Bench) -> None:
    keys = [f"{n}.txt" for n in range(5)]
    bench.extracted(*keys)
    worker = bench.worker()
    for _ in keys:
        bench.fail(worker, bench.hold(worker, [CLASSIFY]), is_final=True)
    assert {bench.state(key, CLASSIFY) for key in keys} == {"pending"}
    assert observed(bench) == []


def test_another_dagster_gets_the_current_problems_too(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    bench.fail(worker, bench.hold(worker, [CLASSIFY]), is_final=True)
    report(bench)
    assert bench.ledger.run(outbox.report_again) == 2
    assert observed(bench) == [(CLASSIFY, State.FAILED)]
