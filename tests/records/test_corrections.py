"""A person's word on a field: where it counts, what it survives, and what a changed file does to it."""

from typing import Any

import dagster as dg
import pytest

from dagster_offload.defs.shown.documents import StageFacts, materialization
from dagster_offload.engine.redoing import prepare_redo
from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.opening import _fields_of_stages
from dagster_offload.ledger.core.rows import PendingEvent
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.reports import views
from dagster_offload.ledger.reports.records import answers_of
from dagster_offload.ledger.work import corrections, documents, redo
from dagster_offload.records import Query
from dagster_offload.records.columns import answered, as_record, columns, flat
from dagster_offload.records.correcting import new_values
from dagster_offload.records.reading import read_documents, stream
from dagster_offload.stages.catalog import code_versions, recipes, stage_graph
from tests.support.engine import FILLER, Engine
from tests.support.ledger import text_result

PAYMENT: dict[str, Any] = {
    "prompt": "What must be paid?",
    "answer": {
        "amount": "number",
        "currency": {"enum": ["EUR", "KRW"], "optional": True},
        "due": "date",
        "a.b": "string?",
        "items": [{"what": "string", "price": "number"}],
    },
    "when": {"classify": {"category": "invoice"}},
    "quotes": True,
}
TEXTS = {
    "a.txt": f"Dear Sir, kind regards, yours faithfully, sincerely.\n{FILLER}",
    "c.txt": f"Invoice of 2025-03-04, amount due 80 EUR, VAT included.\n{FILLER}",
}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """A letter and an invoice, both done."""
    engine.use_stages(payment=PAYMENT)
    engine.extracted(*TEXTS, texts=TEXTS)
    engine.drain()
    return engine


def correct(engine: Engine, document: str, *written: str, note: str | None = None) -> None:
    settings = engine.settings()
    values, _ = new_values(settings, engine.ledger, document, written)
    assert engine.ledger.run(corrections.correct, document, values, note, recipes(settings))


def record(engine: Engine, document: str) -> dict[str, Any]:
    return next(stream(engine.settings(), engine.ledger, Query(documents=[document])))


@pytest.mark.rule("correction-1")
def test_a_correction_wins_in_the_record_in_searches_and_in_the_views(filled: Engine) -> None:
    answered = record(filled, "c.txt")["payment"]
    assert answered["amount"] == 80
    assert answered["quotes"]["amount"]
    correct(filled, "c.txt", "payment.amount=12.5", "title=The heating bill", note="a stamp covers the comma")
    now = record(filled, "c.txt")
    assert (now["payment"]["amount"], now["title"]) == (12.5, "The heating bill")
    assert now["corrected"] == ["title", "payment.amount"]
    assert "amount" not in now["payment"]["quotes"], "the quote states the model's value"
    wanted = (["payment.amount<20"], ["corrected=payment.amount", "corrected=title"], ["corrected!="])
    for query in (*(Query(where=where) for where in wanted), Query(search="heating bill")):
        assert [found["document"] for found in stream(filled.settings(), filled.ledger, query)] == ["c.txt"]
    filled.ledger.run(views.replace, _fields_of_stages(filled.settings()))
    [in_view] = filled.sql("select amount, corrected from record_payment where document = 'c.txt'")
    assert (float(in_view["amount"]), in_view["corrected"]) == (12.5, ["amount"])
    [in_records] = filled.sql("select title, corrected from records where document = 'c.txt'")
    assert in_records == {"title": "The heating bill", "corrected": ["payment.amount", "summarize.title"]}


@pytest.mark.rule("correction-1")
def test_the_answer_of_the_model_is_kept_and_counts_again_when_the_correction_ends(filled: Engine) -> None:
    correct(filled, "c.txt", "payment.amount=12.5")
    [listed] = filled.ledger.run(corrections.list_corrections)
    assert (listed.value, listed.answered, listed.is_for_review) == (12.5, 80, False)
    assert filled.ledger.run(corrections.clear, "c.txt", [("payment", "amount")], recipes(filled.settings())) == [True]
    assert record(filled, "c.txt")["payment"]["amount"] == 80
    assert record(filled, "c.txt")["corrected"] is None


@pytest.mark.rule("correction-2")
def test_a_correction_survives_a_redo_and_a_scan_and_a_renamed_file_keeps_it(filled: Engine) -> None:
    correct(filled, "c.txt", "payment.amount=12.5")
    filled.sql("update work_items set recipe = 'old' where stage = 'payment'")
    chosen, _ = prepare_redo(filled.settings(), filled.ledger, ["payment"], None, only_outdated=True)
    assert filled.ledger.run(redo.redo, chosen) > 0
    filled.drain()
    assert record(filled, "c.txt")["payment"]["amount"] == 12.5
    filled.put("c.txt")  # a scan finds the same bytes
    assert record(filled, "c.txt")["payment"]["amount"] == 12.5
    filled.put("renamed.txt", "c.txt")
    filled.drain()
    assert record(filled, "renamed.txt")["payment"]["amount"] == 12.5


@pytest.mark.rule("correction-2")
def test_a_changed_file_brings_the_correction_up_for_review(filled: Engine) -> None:
    settings = filled.settings()
    correct(filled, "c.txt", "payment.amount=12.5")
    filled.put("c.txt", "other bytes")
    scan = filled.worker("scan")
    filled.finish(scan, filled.hold(scan, ["extract"], keys=["c.txt"]), result=text_result(f"{TEXTS['c.txt']}!"))
    filled.drain()
    assert record(filled, "c.txt")["payment"]["amount"] == 80, "the person spoke of another file"
    assert filled.ledger.run(corrections.count_for_review) == 1
    [listed] = filled.ledger.run(corrections.list_corrections, "c.txt")
    assert listed.is_for_review
    assert filled.ledger.run(corrections.keep, "c.txt", recipes(settings)) == [("payment", "amount")]
    assert record(filled, "c.txt")["payment"]["amount"] == 12.5
    assert filled.ledger.run(corrections.count_for_review) == 0
    filled.put("c.txt", "third bytes")
    assert filled.ledger.run(corrections.count_for_review) == 1
    assert filled.ledger.run(corrections.clear, "c.txt", [("payment", "amount")], recipes(settings)) == [True]
    assert filled.ledger.run(corrections.count_for_review) == 0


@pytest.mark.rule("correction-2")
def test_a_renamed_file_and_a_copy_that_change_bring_the_correction_up_for_review_too(filled: Engine) -> None:
    correct(filled, "c.txt", "payment.amount=12.5", note="mine")
    filled.put("copy.txt", "c.txt")
    filled.put("renamed.txt", "c.txt")
    filled.ledger.run(documents.mark_gone, ["c.txt"])
    assert filled.ledger.run(corrections.count_for_review) == 0
    filled.put("renamed.txt", "other bytes")
    filled.put("copy.txt", "third bytes")
    assert filled.ledger.run(corrections.count_for_review) == 2
    listed = filled.ledger.run(corrections.list_corrections)
    assert [(each.document, each.note, each.is_for_review) for each in listed] == [
        ("copy.txt", "mine", True),
        ("renamed.txt", "mine", True),
    ]
    for name in ("renamed.txt", "copy.txt"):
        kept = filled.ledger.run(corrections.keep, name, recipes(filled.settings()))
        assert kept == [("payment", "amount")], "a decision about one file is none about the other"


@pytest.mark.rule("correction-2")
def test_a_file_that_gets_the_bytes_back_for_which_it_was_corrected_needs_no_review(filled: Engine) -> None:
    correct(filled, "c.txt", "payment.amount=12.5")
    filled.put("c.txt", "other bytes")
    filled.ledger.run(corrections.keep, "c.txt", recipes(filled.settings()))
    filled.put("c.txt", "c.txt")
    assert [each.is_for_review for each in filled.ledger.run(corrections.list_corrections)] == [False]
    assert filled.ledger.run(corrections.count_for_review) == 0


@pytest.mark.rule("correction-3")
def test_a_stage_whose_condition_is_no_longer_met_shows_no_corrected_field(filled: Engine) -> None:
    filled.use_stages(
        payment=PAYMENT,
        late={"prompt": "Is it late?", "answer": {"is_late": "boolean"}, "when": {"payment": {"currency": "KRW"}}},
    )
    filled.drain()
    filled.ledger.run(views.replace, _fields_of_stages(filled.settings()))
    correct(filled, "c.txt", "payment.amount=12.5", "payment.currency=KRW")
    assert filled.state("c.txt", "late") == "pending"
    correct(filled, "c.txt", "category=contract")
    assert filled.item("c.txt", "late")["outcome"] == "not_applicable", "no condition is met by it"
    found = record(filled, "c.txt")
    assert (found["payment"], found["corrected"]) == (None, ["category"])
    assert list(stream(filled.settings(), filled.ledger, Query(where=["payment.amount<20"]))) == []
    assert list(stream(filled.settings(), filled.ledger, Query(where=["corrected=payment.amount"]))) == []
    assert "payment" not in filled.ledger.run(answers_of, ["c.txt"])["c.txt"]
    [seen] = filled.sql("select amount, corrected from record_payment where document = 'c.txt'")
    assert seen == {"amount": None, "corrected": None}
    [seen] = filled.sql("select stages -> 'payment' as payment, corrected from records where document = 'c.txt'")
    assert seen == {"payment": None, "corrected": ["classify.category"]}
    event = results_to_report(filled)[-1]
    assert (event.document, event.outcome, event.value, event.corrected) == ("c.txt", "not_applicable", None, None)
    listed = filled.ledger.run(corrections.list_corrections, "c.txt")
    assert {each.stage: each.is_applicable for each in listed} == {"classify": True, "payment": False}
    filled.ledger.run(corrections.clear, "c.txt", [("classify", "category")], recipes(filled.settings()))
    found = record(filled, "c.txt")
    assert (found["payment"]["amount"], found["corrected"]) == (12.5, ["payment.amount", "payment.currency"])


def test_a_value_that_is_corrected_to_the_same_again_keeps_its_note(filled: Engine) -> None:
    def note() -> str | None:
        return next(each.note for each in filled.ledger.run(corrections.list_corrections) if not each.is_for_review)

    correct(filled, "c.txt", "payment.amount=12.5", note="a stamp covers the comma")
    correct(filled, "c.txt", "payment.amount=12.5")
    assert note() == "a stamp covers the comma"
    filled.put("c.txt", "other bytes")
    correct(filled, "c.txt", "payment.amount=12.5")
    assert note() == "a stamp covers the comma", "the person has reviewed it"
    correct(filled, "c.txt", "payment.amount=13")
    assert note() is None, "the note was about another value"


@pytest.mark.rule("correction-3")
def test_a_corrected_class_starts_the_stages_whose_condition_it_meets(filled: Engine) -> None:
    assert filled.item("a.txt", "payment")["outcome"] == "not_applicable"
    correct(filled, "a.txt", "category=Invoice")
    assert record(filled, "a.txt")["category"] == "invoice"
    assert filled.state("a.txt", "payment") == "pending"
    filled.ledger.run(corrections.clear, "a.txt", [("classify", "category")], recipes(filled.settings()))
    assert filled.item("a.txt", "payment")["outcome"] == "not_applicable"


def results_to_report(filled: Engine) -> list[PendingEvent]:
    events = filled.ledger.run(outbox.pending_events, ["payment"])
    return [event for event in events if isinstance(event, PendingEvent)]


@pytest.mark.rule("correction-1")
def test_a_correction_is_an_event_of_its_own_and_a_line_of_the_history(filled: Engine) -> None:
    waiting = results_to_report(filled)
    filled.ledger.run(outbox.mark_reported, [event.event_id for event in waiting])
    before = next(event for event in waiting if event.document == "c.txt")
    correct(filled, "c.txt", "payment.amount=12.5")
    [event] = results_to_report(filled)
    assert (event.result_id, event.value and event.value["amount"], event.corrected) == (
        before.result_id,
        12.5,
        ["amount"],
    )
    assert event.data_version != before.data_version
    [step] = filled.sql("select reason from transitions where stage = 'payment' and from_state = to_state")
    assert step["reason"] == "corrected by a person: amount"


def test_the_event_of_a_correction_says_so(filled: Engine) -> None:
    settings = filled.settings()
    correct(filled, "c.txt", "payment.amount=12.5")
    event = results_to_report(filled)[-1]
    facts = StageFacts(stage_graph(settings), recipes(settings), code_versions(settings))
    keys = {stage: dg.AssetKey(stage) for stage in facts.graph.names}
    shown = materialization(event, keys, facts, None)
    assert shown.metadata["corrected"].value == "by a person: amount"
    assert shown.metadata["amount"].value == 12.5


def test_the_record_of_an_event_has_the_values_of_the_record_itself(filled: Engine) -> None:
    settings = filled.settings()
    filled.texts("waiting.txt")
    correct(filled, "c.txt", "payment.amount=12.5", "title=Heating")
    every = columns(settings)
    found = filled.ledger.run(answers_of, ["a.txt", "c.txt", "waiting.txt", "unknown.txt"])
    assert sorted(found) == ["a.txt", "c.txt"]
    for document, answers in found.items():
        (whole,) = read_documents(filled.ledger, [document])
        values = flat(as_record(whole, settings), every)
        shown = answered(answers, every)
        assert shown == {name: values[name] for name in shown}
    assert answered(found["c.txt"], every)["payment.amount"] == 12.5
    assert answered(found["c.txt"], every)["title"] == "Heating"
    assert answered(found["a.txt"], every)["payment.amount"] is None


def test_the_name_of_a_field_may_hold_the_dot_that_separates_it_from_its_parts(filled: Engine) -> None:
    [read], _ = new_values(filled.settings(), filled.ledger, "c.txt", ["payment.a.b=with = signs"])
    assert (read.stage, read.field, read.value) == ("payment", "a.b", "with = signs")


def test_a_field_whose_name_is_also_that_of_a_part_of_another_one_is_the_field(filled: Engine) -> None:
    with_both = {**PAYMENT["answer"], "a": {"b": "number", "c": "string?"}}
    filled.use_stages(payment={**PAYMENT, "answer": with_both})
    settings = filled.settings()
    [field], _ = new_values(settings, filled.ledger, "c.txt", ["payment.a.b=text"])
    [part], _ = new_values(settings, filled.ledger, "c.txt", ['payment.a={"b": 1}', "payment.a.c=x"])
    assert (field.field, field.value) == ("a.b", "text")
    assert (part.field, part.value) == ("a", {"b": 1.0, "c": "x"})


def test_parts_of_an_object_are_changed_one_by_one(filled: Engine) -> None:
    correct(filled, "c.txt", 'payment.items=[{"what": "oil", "price": 1}]')
    correct(filled, "c.txt", "payment.items.0.price=3", 'payment.items.1={"what": "gas", "price": 4}')
    assert record(filled, "c.txt")["payment"]["items"] == [
        {"what": "oil", "price": 3.0},
        {"what": "gas", "price": 4.0},
    ]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("payment.unsupported=[]", "correct the field itself"),
        ("titel=x", "did you mean title?"),
        ("category", "write FIELD=VALUE"),
    ],
)
def test_a_field_that_cannot_be_corrected_is_named(filled: Engine, written: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        new_values(filled.settings(), filled.ledger, "c.txt", [written])
    assert message in str(caught.value)


def test_a_wrong_name_of_a_field_is_answered_with_the_fields_of_its_stage(filled: Engine) -> None:
    with pytest.raises(SettingsError) as caught:
        new_values(filled.settings(), filled.ledger, "c.txt", ["payment.amuont=1"])
    message = str(caught.value)
    assert "did you mean payment.amount?" in message
    assert "payment.due" in message
    assert "key_points" not in message
    with pytest.raises(SettingsError, match=r"key_points.*STAGE\.FIELD \(the stages are payment\)"):
        new_values(filled.settings(), filled.ledger, "c.txt", ["titel=1"])


def test_a_person_can_give_the_value_that_no_model_gave(filled: Engine) -> None:
    filled.put("waiting.txt")
    correct(filled, "waiting.txt", "category=contract")
    [found] = read_documents(filled.ledger, ["waiting.txt"])
    assert as_record(found, filled.settings())["category"] is None, "there is no work item yet"
    scan = filled.worker("scan")
    filled.finish(scan, filled.hold(scan, ["extract"], keys=["waiting.txt"]))
    assert record(filled, "waiting.txt")["category"] == "contract"
