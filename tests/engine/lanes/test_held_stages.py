"""A stage that no answer fits is held: its documents wait without blame, and all other stages go on."""

from typing import Any

import pytest

from dagster_offload.engine.runs import run_documents
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.rows import BreakerState
from dagster_offload.ledger.slots import holds, slots
from dagster_offload.ledger.slots.holds import DOCUMENTS_TO_HOLD, Hold
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.engine import FILLER, Engine, attempts
from tests.support.several_slots import BOTH, Several

PAYMENT = "payment"
INVOICES = [f"{n:02}.txt" for n in range(8)]
TEXT = f"Invoice. Amount due: 1250.50 EUR, payable to the landlord by 2025-03-04. VAT included.\n{FILLER}"


def payment(most: float) -> dict[str, Any]:
    """A stage with this largest amount. The amount of every document is 1250.50."""
    return {"prompt": "What must be paid?", "answer": {"amount": {"type": "number", "max": most}}}


@pytest.fixture
def never_fits(engine: Engine) -> Engine:
    """An engine with a stage that no answer fits, and documents."""
    engine.use_stages(payment=payment(most=10))
    engine.extracted(*INVOICES, texts={key: f"{key} {TEXT}" for key in INVOICES})
    return engine


def the_hold(engine: Engine) -> Hold:
    [hold] = engine.ledger.run(holds.list_holds)
    return hold


def asked_about(engine: Engine, stage: str) -> list[int]:
    """The document of each call for this stage."""
    rows = engine.sql("select document_id from calls where stage = %s order by call_id", stage)
    return [row["document_id"] for row in rows]


@pytest.mark.rule("breaker-6")
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_stage_that_no_answer_fits_is_held_and_every_other_stage_is_done(
    never_fits: Engine, concurrency: int
) -> None:
    engine = never_fits
    summary = engine.drain(deep_concurrency=concurrency)
    assert (summary.done, summary.failed, summary.left, attempts(engine)) == (0, 0, len(INVOICES), 0)
    assert engine.counts(CLASSIFY).done == engine.counts(SUMMARIZE).done == len(INVOICES)
    assert engine.counts(PAYMENT).pending == len(INVOICES)
    assert engine.slot().breaker is BreakerState.CLOSED
    hold = the_hold(engine)
    assert (hold.slot, hold.stage, hold.code, hold.left) == (DEEP, PAYMENT, "answer_does_not_fit", len(INVOICES))
    assert summary.reason == str(hold)
    assert (summary.is_misconfigured, summary.is_slot_unavailable) == (True, False)
    assert DOCUMENTS_TO_HOLD <= len(set(asked_about(engine, PAYMENT))) < DOCUMENTS_TO_HOLD + concurrency

    engine.use_stages(payment=payment(most=10_000))
    assert engine.drain(deep_concurrency=concurrency).left == 0
    assert engine.counts(PAYMENT).done == len(INVOICES)
    assert (engine.ledger.run(holds.list_holds), attempts(engine)) == ([], 0)


@pytest.mark.rule("breaker-12")
def test_while_only_a_held_stage_is_left_drains_end_at_once_and_the_sensor_launches_none(never_fits: Engine) -> None:
    engine = never_fits
    engine.drain()
    calls = len(engine.router.completions())
    decision = decide_drain(engine.settings(), engine.ledger)
    assert (decision.launch, decision.message) == (False, str(the_hold(engine)))
    summary = engine.drain()
    assert (summary.done, summary.left, summary.reason) == (0, len(INVOICES), str(the_hold(engine)))
    assert len(engine.router.completions()) == calls


@pytest.mark.rule("breaker-12")
def test_new_documents_get_all_stages_but_the_held_one(never_fits: Engine) -> None:
    engine = never_fits
    engine.drain()
    calls = asked_about(engine, PAYMENT)
    engine.extracted("new.txt", texts={"new.txt": f"new.txt {TEXT}"})
    assert decide_drain(engine.settings(), engine.ledger).launch
    engine.drain()
    assert engine.state("new.txt", SUMMARIZE) == "done"
    assert engine.state("new.txt", PAYMENT) == "pending"
    assert asked_about(engine, PAYMENT) == calls


@pytest.mark.rule("breaker-11")
def test_a_person_who_wants_another_try_gets_it_with_other_documents_first(never_fits: Engine) -> None:
    engine = never_fits
    engine.drain()
    failed = set(asked_about(engine, PAYMENT))
    engine.ledger.run(slots.try_again, DEEP, "requested by command")
    assert decide_drain(engine.settings(), engine.ledger).launch
    engine.sql("delete from calls")
    assert engine.drain().failed == 0
    assert len(set(asked_about(engine, PAYMENT))) == len(INVOICES) - len(failed)
    assert failed.isdisjoint(asked_about(engine, PAYMENT))
    engine.make_due()
    assert engine.drain().failed == 0
    assert the_hold(engine).stage == PAYMENT
    assert attempts(engine) == 0


@pytest.mark.rule("breaker-12")
def test_a_run_over_documents_with_a_held_stage_waits_for_it_and_fails_nothing(never_fits: Engine) -> None:
    engine = never_fits
    engine.drain()
    summary = run_documents(engine.settings(), engine.ledger, INVOICES[:2], [CLASSIFY, PAYMENT])
    assert (summary.done, summary.failed, summary.is_deferral) == (0, (), True)
    assert (summary.slot, summary.held_stage, summary.wait_reason) == (DEEP, PAYMENT, str(the_hold(engine)))
    only_classify = run_documents(engine.settings(), engine.ledger, INVOICES[:2], [CLASSIFY])
    assert (only_classify.done, only_classify.wait_seconds) == (2, None)


@pytest.mark.rule("breaker-12")
def test_a_stage_that_one_slot_holds_is_answered_by_another(several: Several) -> None:
    engine = several.engine
    several.deep.set(answers="garbage")
    engine.texts(*(f"{n:02}.txt" for n in range(12)))
    several.studio.set(hold=True)
    drain = engine.beside(engine.drain)
    several.studio.wait(open=1)
    engine.wait_until(
        "select 1 from stage_faults where slot = 'deep' and stage = 'summarize' and held_since is not null"
    )
    several.studio.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.failed, summary.left, summary.reason) == (12, 0, 0, None)
    assert attempts(engine) == 0
    assert several.answers() == {("studio", CLASSIFY): 12, ("studio", SUMMARIZE): 12}
    assert holds.by_slot(engine.ledger.run(holds.list_holds)) == {"deep": set(BOTH_STAGES)}


@pytest.mark.rule("breaker-12")
def test_a_reserve_takes_over_the_stages_that_the_better_slot_holds(several: Several) -> None:
    several.stages(classify=BOTH, summarize="deep", deep_priority=1)
    several.engine.drain(CLASSIFY)
    several.deep.set(answers="garbage")
    several.engine.texts(*(f"{n:02}.txt" for n in range(6)))
    summary = several.engine.drain(CLASSIFY)
    assert (summary.done, summary.failed, summary.left, summary.reason) == (6, 0, 0, None)
    assert several.answers() == {("studio", CLASSIFY): 6}
    several.deep.set(answers="good")
    assert several.engine.drain().left == 0
    assert several.answers() == {("studio", CLASSIFY): 6, ("deep", SUMMARIZE): 6}


BOTH_STAGES = (CLASSIFY, SUMMARIZE)


def test_the_hours_left_after_a_drain_of_one_stage_are_without_other_stages_that_are_held(never_fits: Engine) -> None:
    never_fits.drain()
    summary = never_fits.drain(CLASSIFY)
    assert (summary.slot_hours_left, summary.tokens_per_second is None) == (0.0, False)
