"""Held stages: document after document ends in the same fault in one stage, so the slot takes no more of them."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, CallRecord, Claim, State
from dagster_offload.ledger.slots import breaker, holds, slots
from dagster_offload.ledger.slots.holds import DOCUMENTS_TO_HOLD, DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE, Hold
from dagster_offload.ledger.work import claims, deferrals, waiting_runs
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.held_stages import KEYS, answer, attempts, held, held_by_five, refuse, the_hold
from tests.support.ledger import RECIPES, SLOT, Bench
from tests.support.stages import DRAIN_STAGES

STUDIO = SlotConfig(name="studio", url="http://studio:1", model="qwen", concurrency=2)


@pytest.mark.rule("breaker-6")
@pytest.mark.parametrize("was_answered", [False, True])
@pytest.mark.parametrize("others_answered", [False, True])
def test_only_a_stage_that_was_answered_beside_others_that_still_are_gets_more_than_five_tries(
    was_answered: bool, others_answered: bool
) -> None:
    expected = DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE if was_answered and others_answered else DOCUMENTS_TO_HOLD
    assert holds.documents_to_hold(was_answered=was_answered, others_answered=others_answered) == expected


@pytest.mark.rule("breaker-6")
def test_the_same_fault_in_five_documents_in_a_row_holds_the_stage_and_gives_attempts_back(bench: Bench) -> None:
    bench.extracted(*KEYS)
    worker = bench.worker()
    for key in KEYS:
        assert held(bench) == {}
        refuse(bench, worker, key)
    hold = the_hold(bench)
    assert (hold.slot, hold.stage, hold.code, hold.documents, hold.document) == (
        DEEP, CLASSIFY, "http_400", 5, "00.txt",
    )  # fmt: skip
    assert hold.left == 5
    assert bench.slot().breaker is BreakerState.CLOSED
    assert attempts(bench, *KEYS) == [0] * 5
    assert {bench.item(key, CLASSIFY)["reason"] for key in KEYS} == {"stage_held: http_400"}


@pytest.mark.rule("breaker-6")
def test_answers_of_other_stages_do_not_keep_a_stage_that_never_fits_from_being_held(bench: Bench) -> None:
    bench.extracted(*KEYS)
    worker = bench.worker()
    for key in KEYS:
        answer(bench, worker, key, SUMMARIZE)
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *KEYS) == [0] * 5


@pytest.mark.rule("breaker-6")
def test_five_documents_of_a_stage_that_answered_others_are_at_fault_while_other_stages_are_answered(
    bench: Bench,
) -> None:
    keys = [f"{n:02}.txt" for n in range(DOCUMENTS_TO_HOLD_AN_ANSWERED_STAGE)]
    bench.extracted("good.txt", *keys)
    worker = bench.worker()
    answer(bench, worker, "good.txt", CLASSIFY)
    for n, key in enumerate(keys):
        assert held(bench) == {}
        assert attempts(bench, *keys[:n]) == [1] * n
        refuse(bench, worker, key)
        bench.sql("update stage_faults set began_at = began_at - interval '1 minute'")  # a call takes seconds
        answer(bench, worker, key, SUMMARIZE)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *keys) == [0] * len(keys)


@pytest.mark.rule("breaker-6")
def test_a_call_that_was_open_when_the_first_fault_came_does_not_show_that_the_slot_still_answers(bench: Bench) -> None:
    bench.extracted("good.txt", *KEYS)
    worker = bench.worker()
    answer(bench, worker, "good.txt", CLASSIFY)
    refuse(bench, worker, KEYS[0])
    answer(bench, worker, "good.txt", SUMMARIZE)  # its call took longer than this test
    for key in KEYS[1:]:
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}


def test_a_stage_is_held_even_if_answered_trials_raised_the_epoch_in_between(bench: Bench) -> None:
    bench.extracted(*KEYS)
    worker = bench.worker()
    for key in KEYS:
        claim = bench.hold(worker, [CLASSIFY], keys=[key])
        epoch = bench.slot().epoch
        bench.ledger.run(breaker.open_breaker, DEEP, epoch, "HTTP 500", None, at_once=True)
        bench.close_breaker()
        fault = CallRecord(DEEP, SLOT.url, epoch, "qwen", 1.0, "HTTPStatusError")
        bench.ledger.run(deferrals.fail, worker, claim, claim.items[0], "http_500", "HTTP 500", fault, is_final=False)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *KEYS) == [0] * 5


@pytest.mark.parametrize("between", ["a success", "another fault", "the same document again"])
def test_five_faults_that_are_not_five_documents_in_a_row_stay_document_faults(bench: Bench, between: str) -> None:
    bench.extracted(*KEYS, "05.txt")
    worker = bench.worker()
    for key in KEYS[:4]:
        refuse(bench, worker, key)
    if between == "a success":
        answer(bench, worker, "05.txt", CLASSIFY)
    if between == "another fault":
        refuse(bench, worker, "05.txt", "http_413")
    if between == "the same document again":
        bench.make_due()
        refuse(bench, worker, KEYS[0])
    else:
        refuse(bench, worker, KEYS[4])
    assert held(bench) == {}
    assert attempts(bench, KEYS[1]) == [1]


@pytest.mark.rule("breaker-6")
def test_retries_of_documents_that_failed_between_answers_do_not_hold_the_stage(bench: Bench) -> None:
    good = [f"good {key}" for key in KEYS]
    bench.extracted(*KEYS, *good)
    worker = bench.worker()
    for bad, key in zip(KEYS, good, strict=True):
        refuse(bench, worker, bad)
        answer(bench, worker, key, CLASSIFY)
    for _ in range(2):
        bench.make_due()
        for key in KEYS:
            refuse(bench, worker, key)
            assert held(bench) == {}
    assert {bench.state(key, CLASSIFY) for key in KEYS} == {State.FAILED}

    bench.sql("update work_items set state = 'pending', attempts = 0, not_before = null where state = 'failed'")
    for key in KEYS:
        refuse(bench, worker, key)
    assert held(bench) == {}, "a person who retries them brings no hold either"


@pytest.mark.rule("breaker-6")
def test_documents_that_failed_at_another_slot_or_in_another_way_count_if_nothing_was_answered(bench: Bench) -> None:
    bench.extracted(*KEYS)
    bench.ledger.run(slots.register, STUDIO, RECIPES)
    worker = bench.worker()
    for key in KEYS:
        refuse(bench, worker, key, slot=STUDIO.name, code="no_json" if key == KEYS[0] else "http_400")
    assert held(bench) == {}
    bench.make_due()
    for key in KEYS:
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}


@pytest.mark.rule("breaker-6")
def test_documents_that_fail_for_the_first_time_among_such_retries_hold_the_stage(bench: Bench) -> None:
    bench.extracted("good.txt", "bad.txt", *KEYS)
    worker = bench.worker()
    refuse(bench, worker, "bad.txt")
    answer(bench, worker, "good.txt", CLASSIFY)
    bench.make_due()
    for key in ("bad.txt", *KEYS):
        assert held(bench) == {}
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, "bad.txt", *KEYS) == [1, *[0] * 5]


def test_faults_of_a_changed_recipe_begin_a_new_row(bench: Bench) -> None:
    bench.extracted(*KEYS)
    worker = bench.worker()
    for key in KEYS[:4]:
        refuse(bench, worker, key)
    [claim] = bench.ledger.run(claims.take, worker, [CLASSIFY], RECIPES | {CLASSIFY: "c2"}, [KEYS[4]], count=1)
    bench.fail(worker, claim, "http_400")
    assert held(bench) == {}


def test_attempts_are_given_back_to_failed_and_to_claimed_documents_too(bench: Bench) -> None:
    bench.extracted(*KEYS)
    worker, other = bench.worker(), bench.worker()
    for key in KEYS[:4]:
        refuse(bench, worker, key)
    bench.make_due()
    for _ in range(2):
        refuse(bench, worker, KEYS[0])
        bench.make_due()
    assert bench.state(KEYS[0], CLASSIFY) == State.FAILED
    taken = bench.hold(other, [CLASSIFY], keys=[KEYS[1]])
    refuse(bench, worker, KEYS[4])
    assert attempts(bench, *KEYS) == [0] * 5
    assert bench.state(KEYS[0], CLASSIFY) == State.PENDING
    assert bench.finish(other, taken)
    assert held(bench) == {DEEP: {CLASSIFY}}, "its call was open when the hold began"


def test_calls_that_were_open_when_the_hold_began_cost_no_attempt_whatever_their_fault(bench: Bench) -> None:
    bench.extracted(*KEYS, "05.txt", "06.txt")
    worker, other = bench.worker(), bench.worker()
    late = [bench.hold(other, [CLASSIFY], keys=[key]) for key in ("05.txt", "06.txt")]
    for key in KEYS:
        refuse(bench, worker, key)
    assert bench.fail(other, late[0], "http_400") is State.PENDING
    assert bench.fail(other, late[1], "no_json") is State.PENDING
    assert attempts(bench, "05.txt", "06.txt") == [0, 0]
    assert (the_hold(bench).code, the_hold(bench).documents) == ("http_400", 7)


def test_of_two_calls_that_fail_at_the_same_moment_the_second_finds_the_stage_held(bench: Bench) -> None:
    bench.extracted(*KEYS, "05.txt")
    worker, other = bench.worker(), bench.worker()
    for key in KEYS[:4]:
        refuse(bench, worker, key)
    fifth, sixth = bench.hold(worker, [CLASSIFY], keys=[KEYS[4]]), bench.hold(other, [CLASSIFY], keys=["05.txt"])
    fault = CallRecord(DEEP, SLOT.url, 1, "qwen", 1.0, "http_400")

    def fail(cur: Cursor, by: int, claim: Claim) -> State:
        return deferrals.fail(cur, by, claim, claim.items[0], "http_400", "why", fault, is_final=False)

    with bench.ledger.transaction() as cur:
        assert fail(cur, worker, fifth) is State.PENDING
        second = bench.begun(lambda cur: fail(cur, other, sixth))
    assert second.result() is State.PENDING
    assert the_hold(bench).documents == 6
    assert attempts(bench, *KEYS, "05.txt") == [0] * 6


@pytest.mark.rule("breaker-12")
def test_a_held_stage_is_claimed_by_no_worker_at_that_slot_and_by_any_at_another(bench: Bench) -> None:
    bench.ledger.run(slots.register, STUDIO)
    held_by_five(bench, "05.txt")
    worker = bench.worker()
    assert bench.take(worker, [CLASSIFY], slot=DEEP) is None
    claim = bench.hold(worker, slot=DEEP)
    assert [item.stage for item in claim.items] == [SUMMARIZE]
    bench.ledger.run(claims.release, worker, claim, "for the other slot")
    assert [item.stage for item in bench.hold(worker, slot="studio").items] == [CLASSIFY, SUMMARIZE]


def test_each_slot_counts_and_holds_for_itself(bench: Bench) -> None:
    bench.ledger.run(slots.register, STUDIO)
    bench.extracted(*KEYS)
    worker = bench.worker()
    for n, key in enumerate(KEYS):
        claim = bench.hold(worker, [CLASSIFY], keys=[key])
        fault = CallRecord((DEEP, "studio")[n % 2], SLOT.url, 1, "qwen", 1.0, "no_json")
        bench.ledger.run(deferrals.fail, worker, claim, claim.items[0], "no_json", "why", fault, is_final=False)
    assert held(bench) == {}


@pytest.mark.rule("breaker-12")
def test_a_run_waits_for_the_held_stage_until_the_slot_takes_it_again(bench: Bench) -> None:
    held_by_five(bench)
    why = str(the_hold(bench))
    bench.ledger.run(waiting_runs.put, "run", KEYS[:1], DRAIN_STAGES, DEEP, why, None, CLASSIFY)
    for is_held in (True, False):
        waiting = bench.ledger.run(waiting_runs.find, "run")
        assert waiting is not None
        assert (waiting.breaker, waiting.is_held) == (BreakerState.CLOSED, is_held)
        bench.ledger.run(slots.try_again, DEEP, "requested by command")


def test_the_text_of_a_hold_names_the_fault_the_numbers_and_the_next_step() -> None:
    since = datetime(2026, 11, 25, 14, 2, tzinfo=UTC).astimezone()
    hold = Hold(DEEP, "payment", "answer_does_not_fit", 5, "a.txt", 1, since)
    assert str(hold) == (
        f"deep holds the stage payment: 5 documents in a row ended in answer_does_not_fit, since {since:%a %d %b %H:%M}; "
        "1 document is left in this stage; correct the stage, or use another model; to try it again as it is, run "
        "dagster-offload slot set deep --try-again"
    )
    built_in = replace(hold, stage=CLASSIFY)
    assert "check which model and which chat template the server of deep has loaded, or use another model" in str(
        built_in
    )
    assert "correct the stage" not in str(built_in)
