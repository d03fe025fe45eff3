"""What a change makes due, what outdated, and what neither, in numbers of calls; and what a redo then costs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from dagster_offload.engine.redoing import describe_estimates, prepare_redo
from dagster_offload.ledger.reports.records import Selection
from dagster_offload.ledger.work import redo
from dagster_offload.ledger.work.redo import RedoEstimate
from dagster_offload.stages.catalog import stage_graph
from dagster_offload.stages.graph import CLASSIFY, EXTRACT, SUMMARIZE
from tests.support.engine import FILLER, Engine
from tests.support.ledger import text_result

PAYMENT: dict[str, Any] = {
    "prompt": "What must be paid?",
    "answer": {"payee": "string", "amount": "number"},
    "when": {"classify": {"category": ["invoice"]}},
}
INVOICE = f"Invoice. Amount due: 1250.50 EUR, payable to the landlord by 2025-03-04. VAT included.\n{FILLER}"
LETTER = f"Dear Sir, kind regards, yours faithfully, sincerely. 3 EUR, VAT included.\n{FILLER}"
TEXTS = {"invoice.txt": INVOICE, "second.txt": f"second {INVOICE}", "letter.txt": LETTER}


def prepared(engine: Engine, *stages: str, only_outdated: bool = True, keys: Sequence[str] | None = None) -> Any:
    selection = None if keys is None else Selection(documents=tuple(keys))
    wanted = stages or stage_graph(engine.settings()).drain_stages
    return prepare_redo(engine.settings(), engine.ledger, wanted, selection, only_outdated=only_outdated)


def redone(engine: Engine, *stages: str, **options: Any) -> list[RedoEstimate]:
    estimates: list[RedoEstimate]
    chosen, estimates = prepared(engine, *stages, **options)
    engine.ledger.run(redo.redo, chosen)
    return estimates


def calls_of(engine: Engine) -> list[Any]:
    """The stages that a drain asks, in order; None for one's own."""
    before = len(engine.asked())
    engine.drain()
    return [stage for _, stage in engine.asked()[before:]]


@pytest.fixture
def answered(engine: Engine) -> Engine:
    """Two invoices and a letter. The stage `payment` is asked about invoices only."""
    engine.use_stages(payment=PAYMENT)
    engine.extracted(*TEXTS, texts=TEXTS)
    assert len(calls_of(engine)) == 8
    return engine


def payment(**changes: Any) -> Callable[[Engine], None]:
    return lambda engine: engine.use_stages(payment={**PAYMENT, **changes})


def another_model(engine: Engine) -> None:
    engine.options["deep_model"] = "another"


def other_classes(engine: Engine) -> None:
    engine.options["classes"] = "invoice"  # the letter becomes an invoice: it mentions VAT


def changed_file(engine: Engine) -> None:
    engine.put("letter.txt", "changed")
    worker = engine.worker("scan")
    engine.finish(worker, engine.hold(worker, [EXTRACT], keys=["letter.txt"]), result=text_result(f"changed {LETTER}"))


@dataclass(frozen=True)
class Row:
    """A change: how many answers it makes outdated, and the calls of the next drain and of the drain after a redo."""

    name: str
    change: Callable[[Engine], None]
    outdated: int
    at_once: int
    after_redo: int


ROWS = (
    Row("nothing", lambda _: None, 0, 0, 0),
    Row("the file", changed_file, 0, 2, 0),
    Row("the description", payment(description="Money."), 0, 0, 0),
    Row("the prompt", payment(prompt="Who gets money?"), 2, 0, 2),
    Row("an option", payment(temperature=0.5), 2, 0, 2),
    Row("the fields", payment(answer={"payee": "string"}), 2, 0, 2),
    Row("the model", another_model, 8, 0, 8),
    Row("a condition that other documents meet", payment(when={"classify": {"category": ["letter"]}}), 0, 1, 0),
    Row("a condition that all documents meet", payment(when={}), 0, 1, 0),
    Row("a condition and the prompt", payment(when={"classify": {"category": ["letter"]}}, prompt="Who?"), 0, 1, 0),
    # The classes are part of the recipe of classify. Its new answer for the letter meets the condition of payment.
    Row("an answer that a condition names", other_classes, 3, 0, 4),
)


@pytest.mark.rule("ledger-6")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_change_makes_answers_due_or_outdated_or_neither(answered: Engine, row: Row) -> None:
    row.change(answered)
    at_once = len(calls_of(answered))
    outdated = sum(answered.counts(stage).outdated for stage in stage_graph(answered.settings()).drain_stages)
    assert (outdated, at_once) == (row.outdated, row.at_once)
    estimates = redone(answered)
    assert sum(estimate.documents for estimate in estimates) == row.outdated
    assert len(calls_of(answered)) == row.after_redo
    assert redone(answered) == []


def test_a_redo_sends_no_call_about_a_document_to_which_a_changed_condition_no_longer_applies(answered: Engine) -> None:
    payment(when={"classify": {"category": ["letter"]}}, prompt="Who?")(answered)
    assert redone(answered) == []  # although no drain has decided the condition before
    assert calls_of(answered) == [None]  # the letter
    assert answered.counts("payment").done == 3


@pytest.mark.rule("stage-5")
def test_a_stage_waits_for_the_answer_that_its_condition_needs_if_both_are_redone(answered: Engine) -> None:
    # The new class fits every document better: no document is an invoice once `classify` is done again.
    answered.options["classes"] = "invoice, tenant"
    payment(prompt="Who?")(answered)
    assert {estimate.stage: estimate.documents for estimate in redone(answered)} == {CLASSIFY: 3, "payment": 2}
    assert calls_of(answered) == [CLASSIFY] * 3
    assert (answered.counts("payment").done, answered.counts("payment").pending) == (3, 0)


def test_a_stage_that_reads_a_record_waits_for_the_new_record(engine: Engine) -> None:
    engine.use_stages(tone={"prompt": "Is it kind?", "reads": "summarize", "answer": {"kind": "boolean"}})
    engine.extracted("a.txt", texts={"a.txt": LETTER})
    calls_of(engine)
    another_model(engine)
    redone(engine, SUMMARIZE, "tone")
    assert calls_of(engine) == [SUMMARIZE, None]


def test_a_redo_of_three_documents_makes_three_calls(answered: Engine) -> None:
    keys = list(TEXTS)
    [estimate] = redone(answered, SUMMARIZE, only_outdated=False, keys=keys)
    assert (estimate.documents, estimate.calls) == (3, 3)
    assert calls_of(answered) == [SUMMARIZE] * 3
    redone(answered, SUMMARIZE, only_outdated=False, keys=keys[:1])
    assert calls_of(answered) == [SUMMARIZE]


def test_an_estimate_gives_documents_calls_tokens_and_time(answered: Engine) -> None:
    payment(prompt="Who gets money?")(answered)
    _, [estimate] = prepared(answered)
    [spent] = answered.sql(
        "select sum(tokens_in + tokens_out) as tokens, sum(seconds) / 3600 as hours from results "
        "where stage = 'payment' and outcome = 'ok'"
    )
    assert (estimate.stage, estimate.documents, estimate.calls) == ("payment", 2, 2)
    assert (estimate.tokens, estimate.hours) == (spent["tokens"], pytest.approx(spent["hours"]))
    [line] = describe_estimates([RedoEstimate("payment", 2, 2, 12_400, 1.0)])
    assert (
        line
        == "payment    2 documents, 2 calls: about 12,400 tokens and 60 min of the slot's time if sent one at a time"
    )


def test_a_redo_of_a_long_document_counts_its_parts_and_merges(engine: Engine) -> None:
    engine.router.set(context_tokens=8_192)
    long = " ".join(f"Page {page}. {FILLER}" for page in range(20))
    engine.extracted("long.txt", "short.txt", texts={"long.txt": long, "short.txt": LETTER})
    engine.drain()
    asked = Counter(row["stage"] for row in engine.sql("select stage from calls where item_id is not null"))
    assert asked[SUMMARIZE] > 10, "nine parts, their merges, and the short one"
    _, estimates = prepared(engine, only_outdated=False)
    found = {estimate.stage: estimate.calls for estimate in estimates}
    assert found[CLASSIFY] == asked[CLASSIFY]
    assert found[SUMMARIZE] == pytest.approx(asked[SUMMARIZE], abs=2), "how merges are grouped is not known"


def test_a_redo_of_a_copy_of_a_long_document_counts_as_many_calls_as_it_takes(engine: Engine) -> None:
    """The copy was not read itself: it has the result of the other one."""
    engine.router.set(context_tokens=8_192)
    long = " ".join(f"Page {page}. {FILLER}" for page in range(20))
    engine.extracted("long.txt", "copy.txt", texts={"long.txt": long, "copy.txt": long})
    engine.drain(SUMMARIZE)
    engine.sql("delete from calls")
    [estimate] = redone(engine, SUMMARIZE, only_outdated=False, keys=["copy.txt", "long.txt"])
    assert engine.drain(SUMMARIZE).left == 0
    [asked] = engine.sql("select count(*) as n from calls where item_id is not null")
    assert asked["n"] >= 20, "nine parts and their merges, for each of them"
    assert estimate.calls == pytest.approx(asked["n"], abs=4), "how merges are grouped is not known"


def test_to_read_a_file_again_costs_no_call(answered: Engine) -> None:
    _, [estimate] = prepared(answered, "extract", only_outdated=False)
    assert (estimate.documents, estimate.calls) == (3, 0)
    assert "3 documents, no call: read again" in next(describe_estimates([estimate]))


def test_stored_answers_to_the_question_of_today_cost_no_call(answered: Engine) -> None:
    payment(prompt="Who gets money?")(answered)
    redone(answered)
    assert len(calls_of(answered)) == 2
    payment()(answered)  # back to the first prompt
    _, [estimate] = prepared(answered)
    assert (estimate.documents, estimate.calls, estimate.tokens) == (2, 0, None)
    assert "no call" in next(describe_estimates([estimate]))
    redone(answered)
    assert calls_of(answered) == []
    assert answered.counts("payment").outdated == 0
