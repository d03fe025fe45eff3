"""Stages that are added, changed and removed while documents have answers."""

import pytest

from dagster_offload.engine.runs import run_documents
from dagster_offload.ledger.core import stages
from dagster_offload.ledger.reports import activity, status
from dagster_offload.stages.catalog import recipes, stage_graph
from dagster_offload.stages.graph import CLASSIFY, Outcome
from tests.support.engine import Engine
from tests.support.own_stages import INVOICE, LETTER, PAYMENT, fill, record


@pytest.fixture
def own(engine: Engine) -> Engine:
    """An engine with the stage `payment`, which is asked only about invoices."""
    engine.use_stages(payment=PAYMENT)
    return engine


@pytest.mark.rule("stage-4")
def test_an_added_stage_gets_items_for_the_documents_that_exist_in_batches(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "DOCUMENTS_A_BATCH", 2)
    keys = [f"{n}.txt" for n in range(5)]
    engine.texts(*keys)
    engine.drain()
    engine.use_stages(sender={"prompt": "Who wrote it?", "answer": {"name": "string"}})
    batches = 1
    while engine.ledger.run(stages.fill, recipes(engine.settings())):
        batches += 1
    assert batches >= 3
    assert engine.counts("sender").pending == 5
    assert engine.drain().done == 5
    assert engine.counts("sender").done == 5


def test_a_drain_fills_in_the_items_of_an_added_stage_itself(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "DOCUMENTS_A_BATCH", 2)
    keys = [f"{n}.txt" for n in range(5)]
    engine.texts(*keys)
    engine.drain()
    engine.use_stages(sender={"prompt": "Who wrote it?", "answer": {"name": "string"}})
    engine.drain()
    assert engine.counts("sender").done == 5


def test_a_run_of_one_document_gets_a_stage_that_was_added_and_what_it_needs(engine: Engine) -> None:
    engine.extracted("a.txt", "b.txt", texts={"a.txt": INVOICE, "b.txt": f"b {INVOICE}"})
    engine.use_stages(payment=PAYMENT)
    summary = run_documents(engine.settings(), engine.ledger, ["a.txt"], ["payment"])
    assert (summary.done, summary.failed, summary.wait_seconds) == (1, (), None)
    assert record(engine, "a.txt", "payment")["outcome"] == Outcome.OK
    assert engine.item("b.txt", CLASSIFY)["state"] == "pending"


def test_work_of_a_removed_stage_is_not_among_the_next_attempts(own: Engine) -> None:
    own.extracted("invoice.txt", texts={"invoice.txt": INVOICE})
    own.drain("classify")
    own.sql("update work_items set not_before = clock_timestamp() + interval '1 hour' where stage = 'payment'")
    assert [item.stage for item in own.ledger.run(activity.next_attempts, 9)] == ["payment"]
    assert own.ledger.run(status.in_back_off) == {"payment": 1}
    own.use_stages()
    assert own.ledger.run(activity.next_attempts, 9) == []
    assert own.ledger.run(status.in_back_off) == {}


def test_a_failure_of_a_removed_stage_is_not_shown(own: Engine) -> None:
    own.extracted("invoice.txt", texts={"invoice.txt": INVOICE})
    own.drain("classify")
    own.sql("update work_items set state = 'failed', reason = 'no_json: none' where stage = 'payment'")
    assert own.ledger.run(status.problem_counts) == {"failed": 1}
    own.use_stages()
    assert own.ledger.run(status.problem_counts) == {}
    assert own.ledger.run(status.problems) == []


def test_a_removed_stage_keeps_its_results_and_an_identical_one_costs_no_call(own: Engine) -> None:
    own.extracted("a.txt", texts={"a.txt": INVOICE})
    own.drain()
    calls = len(own.router.completions())
    own.use_stages()
    fill(own)
    assert "payment" not in stage_graph(own.settings()).names
    assert record(own, "a.txt", "payment")["outcome"] == Outcome.OK
    own.use_stages(payment=PAYMENT)
    fill(own)
    own.drain()
    assert len(own.router.completions()) == calls


def test_the_answer_to_a_stage_that_is_removed_during_its_call_is_kept(own: Engine) -> None:
    own.extracted("a.txt", texts={"a.txt": INVOICE})
    own.drain("classify")
    own.router.set(hold=True)
    drain = own.beside(own.drain, "payment")
    own.router.wait(open=1)
    own.use_stages()
    own.router.set(hold=False)
    assert drain.result().failed == 0
    assert own.sql("select 1 from work_items where state = 'claimed'") == []
    calls = len(own.router.completions())
    own.use_stages(payment=PAYMENT)
    own.drain("payment")
    assert record(own, "a.txt", "payment")["outcome"] == Outcome.OK
    assert len(own.router.completions()) == calls


def test_a_changed_condition_is_decided_again_without_a_call_where_it_is_not_met(own: Engine) -> None:
    own.extracted("a.txt", texts={"a.txt": LETTER})
    own.drain()
    own.use_stages(payment={**PAYMENT, "when": {"classify": {"category": "letter"}}})
    fill(own)
    assert own.counts("payment").pending == 1
    own.use_stages(payment=PAYMENT)
    fill(own)
    assert record(own, "a.txt", "payment")["outcome"] == Outcome.NOT_APPLICABLE
    assert len(own.router.completions()) == 2


def test_a_changed_prompt_makes_answers_outdated_and_redoes_nothing_by_itself(own: Engine) -> None:
    own.extracted("a.txt", texts={"a.txt": INVOICE})
    own.drain()
    calls = len(own.router.completions())
    own.use_stages(payment={**PAYMENT, "prompt": "Who gets the money?"})
    fill(own)
    own.drain()
    assert own.counts("payment").outdated == 1
    assert len(own.router.completions()) == calls
