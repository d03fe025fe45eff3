"""Held stages: document after document fails in one stage, and not always in the same way."""

from dataclasses import replace
from itertools import cycle

import pytest

from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.slots.holds import DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS
from dagster_offload.slot.config import DEEP, SlotConfig
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.held_stages import answer, attempts, held, refuse, the_hold
from tests.support.ledger import Bench, call, record_result

MANY = [f"{n:02}.txt" for n in range(DOCUMENTS_TO_HOLD_FOR_DIFFERENT_FAULTS)]
CODES = ("no_json", "answer_does_not_fit")
STUDIO = SlotConfig(name="studio", url="http://studio:1", model="qwen", concurrency=2)


@pytest.mark.rule("breaker-6")
@pytest.mark.parametrize("was_answered", [False, True])
def test_twenty_documents_in_a_row_that_fail_in_alternating_ways_hold_the_stage(
    bench: Bench, was_answered: bool
) -> None:
    bench.extracted("good.txt", *MANY)
    worker = bench.worker()
    if was_answered:
        answer(bench, worker, "good.txt", CLASSIFY)
    for key, code in zip(MANY, cycle(CODES)):
        assert held(bench) == {}
        refuse(bench, worker, key, code)
        answer(bench, worker, key, SUMMARIZE)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *MANY) == [0] * len(MANY)
    assert {bench.state(key, CLASSIFY) for key in MANY} == {State.PENDING}
    assert {bench.item(key, CLASSIFY)["reason"] for key in MANY} == {"stage_held: different_faults"}
    assert (the_hold(bench).code, the_hold(bench).documents) == ("different_faults", len(MANY))
    assert "20 documents in a row ended in different faults, since " in str(the_hold(bench))


@pytest.mark.rule("breaker-6")
def test_an_answer_of_the_stage_begins_a_new_row_of_different_faults(bench: Bench) -> None:
    bench.extracted("good.txt", *MANY)
    worker = bench.worker()
    _fail_in_turn(bench, worker, MANY[:10], ("http_413", "http_422"))
    answer(bench, worker, "good.txt", CLASSIFY)
    _fail_in_turn(bench, worker, MANY[10:], CODES)
    assert held(bench) == {}


def _fail_in_turn(bench: Bench, worker: int, keys: list[str], codes: tuple[str, ...]) -> None:
    for key, code in zip(keys, cycle(codes)):
        refuse(bench, worker, key, code)


@pytest.mark.rule("breaker-6")
def test_a_document_that_ends_after_different_faults_made_a_hold_gets_the_reason_of_the_hold(bench: Bench) -> None:
    bench.extracted("late.txt", *MANY)
    worker = bench.worker()
    late = bench.hold(worker, [CLASSIFY], keys=["late.txt"])  # its call is open when the hold begins
    _fail_in_turn(bench, worker, MANY, CODES)
    bench.fail(worker, late, CODES[0])
    assert bench.item("late.txt", CLASSIFY)["reason"] == "stage_held: different_faults"
    assert attempts(bench, "late.txt") == [0]


@pytest.mark.rule("breaker-6")
def test_retries_of_documents_that_failed_in_different_ways_before_the_last_answer_do_not_hold_the_stage(
    bench: Bench,
) -> None:
    bench.extracted("good.txt", *MANY)
    worker = bench.worker()
    for key, code in zip(MANY[:-1], cycle(CODES)):
        refuse(bench, worker, key, code)
    answer(bench, worker, "good.txt", CLASSIFY)
    bench.make_due()
    for key, code in zip(reversed(MANY), cycle(CODES)):
        refuse(bench, worker, key, code)
    assert held(bench) == {}


@pytest.mark.rule("breaker-6")
def test_five_equal_faults_after_a_different_one_hold_the_stage_and_give_back_only_their_attempts(bench: Bench) -> None:
    bench.extracted(*MANY[:6])
    worker = bench.worker()
    refuse(bench, worker, MANY[0], "http_413")
    for key in MANY[1:6]:
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *MANY[:6]) == [1, 0, 0, 0, 0, 0]
    assert (the_hold(bench).code, the_hold(bench).documents) == ("http_400", 5)


@pytest.mark.rule("breaker-6")
@pytest.mark.parametrize("codes", [CODES, ("http_400",)], ids=["different faults", "equal faults"])
def test_documents_that_failed_at_another_slot_do_not_make_a_slot_that_answers_the_stage_hold_it(
    bench: Bench, codes: tuple[str, ...]
) -> None:
    bench.extracted("good.txt", "better.txt", *MANY)
    bench.ledger.run(slots.register, STUDIO)
    worker = bench.worker()
    for key, code in zip(MANY, cycle(codes)):
        refuse(bench, worker, key, code)
        bench.sql("delete from stage_faults")  # good documents come between
    answer(bench, worker, "good.txt", CLASSIFY)
    at_studio = replace(record_result("ok"), calls=(call(slot="studio"),))
    assert bench.finish(worker, bench.hold(worker, [CLASSIFY], keys=["better.txt"], slot="studio"), result=at_studio)
    bench.make_due()
    for key, code in zip(MANY, cycle(codes)):
        refuse(bench, worker, key, code, slot="studio")
    assert held(bench) == {}


@pytest.mark.rule("breaker-6")
def test_documents_that_were_deferred_before_the_last_answer_count_if_their_faults_differ(bench: Bench) -> None:
    bench.extracted("good.txt", *MANY)
    worker = bench.worker()
    for key in MANY:
        bench.defer(worker, bench.hold(worker, [CLASSIFY], keys=[key]))
    answer(bench, worker, "good.txt", CLASSIFY)
    bench.make_due()
    _fail_in_turn(bench, worker, MANY, CODES)
    assert held(bench) == {DEEP: {CLASSIFY}}


@pytest.mark.rule("breaker-6")
def test_a_fault_that_a_worker_of_an_older_version_added_without_its_code_begins_a_new_row(bench: Bench) -> None:
    bench.extracted(*MANY)
    worker = bench.worker()
    for key in MANY[:4]:
        refuse(bench, worker, key)
    bench.sql("update stage_faults set items = items || items[1:1], code = 'no_json'")
    refuse(bench, worker, MANY[4])
    assert held(bench) == {}
    for key in MANY[5:9]:
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *MANY[:9]) == [1] * 4 + [0] * 5
