"""What a call without a result does to its work item: deferred, retried, failed, suspected, quarantined."""

import pytest

from dagster_offload.ledger.core.rows import BreakerState, Claim, State
from dagster_offload.ledger.slots import breaker
from dagster_offload.ledger.work import claims, deferrals, finish, redo, suspects
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.ledger import SLOT, Bench, call
from tests.support.stages import DRAIN_STAGES


def cut(bench: Bench, worker: int, claim: Claim) -> State:
    """A claim's call is cut, and the trial right after it is answered."""
    epoch = bench.slot().epoch
    note_cut(bench, claim, epoch)
    bench.close_breaker()
    return suspect(bench, worker, claim, epoch)


def note_cut(bench: Bench, claim: Claim, epoch: int) -> bool:
    return bench.ledger.run(suspects.note_cut, DEEP, epoch, claim.items[0], "answer cut")


def suspect(bench: Bench, worker: int, claim: Claim, epoch: int) -> State:
    fault = call(epoch, "ReadError")
    state = bench.ledger.run(suspects.suspect, worker, claim, claim.items[0], fault, "answer cut")
    bench.ledger.run(claims.release, worker, claim, "the document was deferred")
    return state


def ten_minutes_pass(bench: Bench) -> None:
    bench.sql("update cuts set at = at - interval '10 minutes 1 second'")
    bench.make_due()


def test_a_deferral_costs_no_attempt_and_touches_only_the_item_that_was_called(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    bench.defer(worker, bench.hold(worker))
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["deferrals"], item["reason"]) == ("deferred", 0, 1, "upstream_cold")
    assert bench.state("a.txt", SUMMARIZE) == bench.state("b.txt", CLASSIFY) == State.PENDING
    assert bench.slot().breaker is BreakerState.OPEN


def test_no_number_of_deferrals_fails_a_document(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    for number in range(1, 15):
        bench.defer(worker, bench.hold(worker, [CLASSIFY]), epoch=number)
        bench.close_breaker()
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["deferrals"]) == ("deferred", 0, 14)


@pytest.mark.rule("ledger-10")
def test_a_document_fault_costs_one_attempt_and_backs_off_one_then_ten_minutes_then_fails(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    assert bench.fail(worker, bench.hold(worker, [CLASSIFY])) is State.PENDING
    assert bench.take(worker, [CLASSIFY]) is None
    assert bench.item("a.txt", CLASSIFY)["waits"] == 60
    bench.make_due()
    assert bench.fail(worker, bench.hold(worker, [CLASSIFY])) is State.PENDING
    assert bench.item("a.txt", CLASSIFY)["waits"] == 600
    bench.make_due()
    assert bench.fail(worker, bench.hold(worker, [CLASSIFY])) is State.FAILED
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["reason"]) == ("failed", 3, "empty_answer: in words")
    assert bench.take(worker, [CLASSIFY]) is None


def test_a_broken_file_fails_at_once_with_one_attempt(bench: Bench) -> None:
    bench.put("broken.pdf")
    worker = bench.worker()
    claim = bench.hold(worker, [EXTRACT])
    state = bench.ledger.run(
        deferrals.fail, worker, claim, claim.items[0], "broken", "the PDF is broken", None, is_final=True
    )
    assert state is State.FAILED
    assert bench.item("broken.pdf", EXTRACT)["attempts"] == 1


def test_a_fault_of_a_lost_claim_costs_no_attempt(bench: Bench) -> None:
    bench.extracted("a.txt")
    late = bench.worker()
    claim = bench.hold(late, [CLASSIFY])
    bench.die(late)
    bench.fail(late, claim)
    bench.defer(late, claim)
    suspect(bench, late, claim, 1)
    item = bench.item("a.txt", CLASSIFY)
    assert (item["state"], item["attempts"], item["deferrals"], item["must_run_alone"]) == ("pending", 0, 0, False)


# Poison


@pytest.mark.rule("suspect-1")
def test_a_document_cut_alone_is_a_suspect_that_pauses_and_then_runs_alone(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    assert cut(bench, worker, bench.hold(worker)) is State.DEFERRED
    item = bench.item("a.txt", CLASSIFY)
    assert (item["attempts"], item["must_run_alone"], item["reason"]) == (0, True, "answer cut: runs alone next")
    assert item["waits"] == 60
    assert bench.take(worker, [CLASSIFY], alone=True) is None
    assert bench.hold(worker).document == "b.txt"
    bench.make_due()
    claim = bench.hold(bench.worker(), alone=True)
    assert claim.document == "a.txt"
    assert [item.stage for item in claim.items] == [CLASSIFY, SUMMARIZE], "both send the slot the same text"


def test_three_suspicions_ten_minutes_apart_quarantine_with_the_next_step(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    states = [cut(bench, worker, bench.hold(worker, [CLASSIFY]))]
    for _ in range(2):
        ten_minutes_pass(bench)
        states.append(cut(bench, worker, bench.hold(worker, [CLASSIFY], alone=True)))
    assert states == [State.DEFERRED, State.DEFERRED, State.QUARANTINED]
    item = bench.item("a.txt", CLASSIFY)
    assert "retry" in item["reason"]
    assert item["attempts"] == 0


@pytest.mark.rule("suspect-2")
def test_three_suspicions_with_other_documents_answered_between_quarantine_without_waiting(bench: Bench) -> None:
    bench.extracted("bad.txt", "1.txt", "2.txt")
    worker = bench.worker()
    cut(bench, worker, bench.hold(worker, [CLASSIFY]))
    for other in ("1.txt", "2.txt"):
        bench.finish(worker, bench.hold(worker, [CLASSIFY], keys=[other]))
        bench.make_due()
        cut(bench, worker, bench.hold(worker, [CLASSIFY], alone=True))
    assert bench.state("bad.txt", CLASSIFY) == State.QUARANTINED


def test_cuts_in_quick_succession_without_an_answer_in_between_are_one_suspicion_and_wait_longer(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    cut(bench, worker, bench.hold(worker, [CLASSIFY]))
    for _ in range(4):
        bench.make_due()
        assert cut(bench, worker, bench.hold(worker, [CLASSIFY], alone=True)) is State.DEFERRED
    assert bench.item("a.txt", CLASSIFY)["waits"] == 600


@pytest.mark.rule("suspect-3")
def test_several_documents_cut_at_once_are_no_suspects(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    one, two = bench.worker(), bench.worker()
    first, second = bench.hold(one, [CLASSIFY]), bench.hold(two, [CLASSIFY])
    assert note_cut(bench, first, 1)
    assert note_cut(bench, second, 1)
    bench.close_breaker()
    for worker, claim in ((one, first), (two, second)):
        assert suspect(bench, worker, claim, 1) is State.DEFERRED
    for key in ("a.txt", "b.txt"):
        assert bench.item(key, CLASSIFY)["must_run_alone"], "running alone shows the cause and harms no other document"
    assert bench.sql("select 1 from cuts where is_suspicion") == []
    assert bench.ledger.run(claims.count_due, [CLASSIFY]) == 2


def test_a_cut_recorded_a_moment_later_clears_the_earlier_suspicion(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt")
    one, two = bench.worker(), bench.worker()
    first, second = bench.hold(one, [CLASSIFY]), bench.hold(two, [CLASSIFY])
    cut(bench, one, first)
    assert not note_cut(bench, second, 1), "its epoch is over: the cut shows nothing about the document"
    assert bench.sql("select 1 from cuts where is_suspicion") == []


def test_a_cut_call_for_a_file_edited_meanwhile_is_not_recorded(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker)
    bench.put("a.txt", "other bytes")
    assert cut(bench, worker, claim) is State.CLAIMED
    assert bench.sql("select 1 from cuts") == []
    assert bench.state("a.txt", EXTRACT) == State.PENDING
    assert [row["outcome"] for row in bench.sql("select outcome from calls where item_id is not null")] == ["ReadError"]


def refused_trial(bench: Bench, epoch: int) -> None:
    """The trial right after a failure is refused; all workers share the result in that epoch."""
    worker = bench.worker()
    bench.sql("update slots set retry_at = clock_timestamp()")
    assert bench.begin_trial(worker, epoch) is breaker.TrialTurn.YOURS
    bench.ledger.run(finish.record_call, worker, None, None, call(epoch, "connection refused"))
    bench.ledger.run(breaker.end_trial, DEEP, worker, epoch, breaker.TrialEnd(False, "connection refused"), SLOT.url)


def crash(bench: Bench, worker: int, claim: Claim) -> State:
    """A claim's call is cut, the server is down, and some seconds later it is back."""
    epoch = bench.slot().epoch
    note_cut(bench, claim, epoch)
    refused_trial(bench, epoch)
    state = suspect(bench, worker, claim, epoch)
    bench.close_breaker()
    return state


def test_a_document_that_fails_together_with_its_server_runs_after_the_others_and_is_no_suspect_yet(
    bench: Bench,
) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    assert crash(bench, worker, bench.hold(worker)) is State.DEFERRED
    assert bench.hold(worker).document == "b.txt"
    assert bench.hold(bench.worker(), alone=True).document == "a.txt", "the slot is back, so it is due"
    assert bench.sql("select 1 from cuts where is_suspicion") == []


@pytest.mark.rule("suspect-8")
def test_a_document_that_brings_its_server_down_three_times_alone_is_quarantined_with_its_history(
    bench: Bench,
) -> None:
    bench.extracted("a.txt", "b.txt")
    worker = bench.worker()
    crash(bench, worker, bench.hold(worker, [CLASSIFY]))
    bench.finish(worker, bench.hold(worker, [CLASSIFY], keys=["b.txt"]))
    states = []
    for _ in range(3):
        states.append(crash(bench, worker, bench.hold(worker, [CLASSIFY], alone=True)))
        ten_minutes_pass(bench)
    assert states == [State.DEFERRED, State.DEFERRED, State.QUARANTINED]
    reason = bench.item("a.txt", CLASSIFY)["reason"]
    assert reason.startswith("4 times answer cut (trial: connection refused)")
    assert "retry" in reason


def test_no_number_of_failures_quarantines_if_the_slot_answered_no_other_document(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    crash(bench, worker, bench.hold(worker, [CLASSIFY]))
    for _ in range(6):
        assert crash(bench, worker, bench.hold(worker, [CLASSIFY], alone=True)) is State.DEFERRED
        ten_minutes_pass(bench)


@pytest.mark.rule("suspect-6")
def test_of_documents_that_run_alone_the_one_that_failed_least_runs_first(bench: Bench) -> None:
    bench.extracted("a.txt", "b.txt", "c.txt")
    one, two = bench.worker(), bench.worker()
    first, second = bench.hold(one, [CLASSIFY]), bench.hold(two, [CLASSIFY])
    note_cut(bench, first, 1)
    note_cut(bench, second, 1)
    refused_trial(bench, 1)
    for worker, claim in ((one, first), (two, second)):
        suspect(bench, worker, claim, 1)
    bench.close_breaker()
    lone = bench.hold(one, [CLASSIFY], alone=True)
    assert lone.document == "a.txt"
    crash(bench, one, lone)
    bench.make_due()
    assert bench.hold(one, [CLASSIFY], alone=True).document == "b.txt"


def test_a_retried_quarantined_document_runs_alone_with_a_clean_record(bench: Bench) -> None:
    bench.extracted("a.txt")
    worker = bench.worker()
    cut(bench, worker, bench.hold(worker, [CLASSIFY]))
    for _ in range(2):
        ten_minutes_pass(bench)
        cut(bench, worker, bench.hold(worker, [CLASSIFY], alone=True))
    assert bench.ledger.run(redo.retry, DRAIN_STAGES) == [("a.txt", CLASSIFY), ("a.txt", SUMMARIZE)]
    assert bench.sql("select 1 from cuts") == []
    assert bench.finish(worker, bench.hold(worker, [CLASSIFY], alone=True))
    assert not bench.item("a.txt", CLASSIFY)["must_run_alone"]
