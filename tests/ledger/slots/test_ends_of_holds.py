"""How a hold of a stage ends: another recipe, other settings of the slot, a person; not by itself."""

from dataclasses import replace

import pytest

from dagster_offload.ledger.core import stages as core_stages
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.ledger.work import claims
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE, StageGraph, StageNode
from tests.support.held_stages import KEYS, attempts, held, held_by_five, refuse
from tests.support.ledger import RECIPES, SLOT, Bench


@pytest.mark.rule("breaker-11")
def test_a_hold_ends_with_a_changed_recipe_of_its_stage_and_with_no_other(bench: Bench) -> None:
    held_by_five(bench)
    bench.ledger.run(slots.register, SLOT, RECIPES | {SUMMARIZE: "s2"})
    bench.ledger.run(slots.register, SLOT)
    assert held(bench) == {DEEP: {CLASSIFY}}
    bench.ledger.run(slots.register, SLOT, RECIPES | {CLASSIFY: "c2"})
    assert held(bench) == {}
    assert bench.ledger.run(claims.count_due, [CLASSIFY], slot=DEEP) == 5


@pytest.mark.rule("breaker-11")
def test_a_hold_ends_when_the_slots_settings_change(bench: Bench) -> None:
    held_by_five(bench)
    bench.ledger.run(slots.register, replace(SLOT, concurrency=7))
    assert held(bench) == {DEEP: {CLASSIFY}}, "a setting that changes no answer"
    bench.ledger.run(slots.register, replace(SLOT, model="another"))
    assert held(bench) == {}


@pytest.mark.rule("breaker-11")
def test_a_hold_does_not_end_by_itself_when_the_slot_was_away_or_misconfigured(bench: Bench) -> None:
    worker = held_by_five(bench)
    bench.ledger.run(breaker.open_breaker, DEEP, 1, "warming", None, at_once=True)
    bench.ledger.run(breaker.note_probe, DEEP, is_healthy=False, reason="warming")
    bench.ledger.run(breaker.note_probe, DEEP, is_healthy=True, reason="ok")
    bench.begin_trial(worker, 1)
    bench.ledger.run(
        breaker.end_trial, DEEP, worker, 1, breaker.TrialEnd(False, "HTTP 401", is_misconfigured=True), SLOT.url
    )
    bench.ledger.run(slots.note_models, DEEP, "a")
    bench.ledger.run(slots.note_models, DEEP, "b")
    bench.ledger.run(slots.make_trial_due, DEEP)
    bench.close_breaker()
    assert held(bench) == {DEEP: {CLASSIFY}}


@pytest.mark.rule("breaker-11")
def test_a_person_ends_a_hold_and_documents_that_it_has_not_failed_go_first(bench: Bench) -> None:
    worker = held_by_five(bench, "05.txt")
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    assert held(bench) == {}
    assert bench.hold(worker, [CLASSIFY], slot=DEEP).document == "05.txt"
    assert bench.take(worker, [CLASSIFY], slot=DEEP) is None
    bench.make_due()
    assert bench.hold(worker, [CLASSIFY], slot=DEEP).document == "00.txt"
    assert bench.slot().breaker is BreakerState.CLOSED, "the slot was never unavailable"


def test_if_no_other_document_waits_those_that_it_failed_are_tried_again_at_once(bench: Bench) -> None:
    worker = held_by_five(bench)
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    assert bench.hold(worker, [CLASSIFY], slot=DEEP).document == "00.txt"


def test_a_stage_that_is_tried_again_and_still_fails_is_held_again_after_five_documents(bench: Bench) -> None:
    worker = held_by_five(bench)
    bench.ledger.run(slots.try_again, DEEP, "requested by command")
    for key in KEYS:
        assert held(bench) == {}
        refuse(bench, worker, key)
    assert held(bench) == {DEEP: {CLASSIFY}}
    assert attempts(bench, *KEYS) == [0] * 5


def test_a_slot_that_is_forgotten_holds_nothing(bench: Bench) -> None:
    held_by_five(bench)
    bench.ledger.run(slots.forget, DEEP)
    bench.ledger.run(slots.register, SLOT)
    assert held(bench) == {}


def test_a_stage_that_was_removed_is_not_shown_and_not_held_when_it_returns(bench: Bench) -> None:
    held_by_five(bench)
    without = StageGraph((StageNode(EXTRACT, None), StageNode(SUMMARIZE, EXTRACT)))
    before = bench.ledger.run(core_stages.graph)
    bench.ledger.run(core_stages.replace, without)
    assert held(bench) == {}
    bench.ledger.run(slots.register, SLOT, {EXTRACT: "x1", SUMMARIZE: "s1"})
    bench.ledger.run(core_stages.replace, before)
    assert held(bench) == {}
