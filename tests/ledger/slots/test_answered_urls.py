"""At which URL a slot has answered: that of the call, whatever URL was registered meanwhile."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dagster_offload.ledger.slots import breaker, slots
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.ledger import SLOT, Bench

MISTYPED = replace(SLOT, url="http://slto:1")


def finish_one(bench: Bench) -> None:
    worker = bench.worker()
    bench.finish(worker, bench.hold(worker))


def answer_a_part(bench: Bench) -> None:
    bench.ledger.run(breaker.note_success, DEEP, CLASSIFY, SLOT.url)


def answer_a_trial(bench: Bench) -> None:
    worker = bench.worker("sensor")
    bench.sql("update slots set breaker = 'open', trial_worker = %s", worker)
    bench.ledger.run(breaker.end_trial, DEEP, worker, 1, breaker.TrialEnd(True, "answered"), SLOT.url)


@pytest.mark.rule("slot-15")
@pytest.mark.parametrize("answer", [finish_one, answer_a_part, answer_a_trial])
def test_an_answer_from_the_url_before_an_edit_does_not_show_that_the_new_url_is_right(
    bench: Bench, answer: Callable[[Bench], None]
) -> None:
    bench.extracted("a.txt")
    bench.ledger.run(slots.register, MISTYPED)
    answer(bench)
    assert bench.ledger.run(slots.has_answered, SLOT)
    assert not bench.ledger.run(slots.has_answered, MISTYPED)


def test_an_answer_that_changes_nothing_of_its_slot_leaves_slots_alone_though_another_slot_never_answered(
    bench: Bench,
) -> None:
    bench.ledger.run(slots.register, replace(SLOT, name="studio"))
    bench.extracted("a.txt")
    worker = bench.worker()
    claim = bench.hold(worker, [CLASSIFY, SUMMARIZE])
    first, second = claim.items
    bench.finish(worker, claim, first)
    bench.sql(
        "create or replace function note_success(slot_names text[], stage_names text[], urls text[]) returns void "
        "language plpgsql as $$ begin raise exception 'slots were written'; end $$"
    )
    assert bench.finish(worker, claim, second)
