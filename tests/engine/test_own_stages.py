"""Stages of a person's own run like the built-in ones: in drains and runs, with conditions, quotes and long documents."""

import pytest
from psycopg.types.json import Jsonb

from dagster_offload.ledger.reports.used_values import used_values
from dagster_offload.stages.graph import CLASSIFY, Outcome
from tests.support.engine import FILLER, Engine
from tests.support.own_stages import INVOICE, LETTER, PAYMENT, record


@pytest.fixture
def own(engine: Engine) -> Engine:
    """An engine with the stage `payment`, which is asked only about invoices."""
    engine.use_stages(payment=PAYMENT)
    return engine


def test_an_own_stage_runs_in_a_drain_and_gives_a_typed_record_with_quotes(own: Engine) -> None:
    own.extracted("invoice.txt", texts={"invoice.txt": INVOICE})
    assert own.drain().done == 1
    row = record(own, "invoice.txt", "payment")
    assert row["outcome"] == Outcome.OK
    assert (row["value"]["amount"], row["value"]["currency"], row["value"]["due"]) == (1250.5, "EUR", "2025-03-04")
    quote = row["value"]["quotes"]["amount"]
    assert INVOICE[quote["start"] : quote["end"]] == quote["text"] == "1250.50"
    assert row["value"]["unsupported"] == []


@pytest.mark.rule("stage-1")
def test_a_stage_whose_condition_is_not_met_makes_no_call(own: Engine) -> None:
    own.extracted("letter.txt", texts={"letter.txt": LETTER})
    assert own.drain().done == 1
    assert record(own, "letter.txt", "payment") == {"outcome": Outcome.NOT_APPLICABLE, "value": None}
    assert len(own.router.completions()) == 2
    assert own.counts("payment").done == 1


def test_a_redo_asks_nothing_of_a_document_to_which_the_stage_does_not_apply(own: Engine) -> None:
    # All such documents share one result: an answer in its place would be that of one document for all of them.
    own.extracted("letter.txt", texts={"letter.txt": LETTER})
    own.drain()
    assert own.redo(["payment"], ["letter.txt"]) == 0
    own.drain()
    assert record(own, "letter.txt", "payment") == {"outcome": Outcome.NOT_APPLICABLE, "value": None}


@pytest.mark.rule("stage-2")
def test_a_document_is_read_once_although_a_stage_becomes_due_by_its_answers(own: Engine) -> None:
    keys = [f"{n}.txt" for n in range(4)]
    own.extracted(*keys, texts={key: f"{key} {INVOICE}" for key in keys})
    own.drain()
    assert len(own.router.completions()) == 12
    assert own.router.log()["read_ratio"] <= 1.15


@pytest.mark.rule("stage-1")
def test_a_changed_answer_decides_the_condition_again(own: Engine) -> None:
    own.extracted("a.txt", texts={"a.txt": f"{LETTER} The amount of 3 EUR includes VAT."})
    own.drain()
    assert record(own, "a.txt", "payment")["outcome"] == Outcome.NOT_APPLICABLE
    # A person redoes the class, and the answer is another one now.
    own.options["classes"] = "invoice"
    own.sql("update work_items set state = 'pending', is_redo = true where stage = %s", CLASSIFY)
    own.drain()
    assert record(own, "a.txt", CLASSIFY)["value"]["category"] == "invoice"
    assert record(own, "a.txt", "payment")["outcome"] == Outcome.OK


def test_a_stage_that_reads_a_record_gets_the_record_and_not_the_document(engine: Engine) -> None:
    engine.use_stages(tone={"prompt": "Is the summary kind?", "reads": "summarize", "answer": {"kind": "boolean"}})
    engine.texts("a.txt")
    engine.drain()
    assert record(engine, "a.txt", "tone")["value"] == {"kind": True}
    last = engine.router.completions()[-1]
    assert last["document"] not in {entry["document"] for entry in engine.router.completions()[:-1]}


@pytest.mark.rule("stage-4")
def test_documents_to_which_a_stage_does_not_apply_reuse_nothing_of_each_other(own: Engine) -> None:
    own.extracted("a.txt", "b.txt", texts={"a.txt": LETTER, "b.txt": f"{LETTER} Again."})
    own.drain()
    assert {
        row["reason"]
        for row in own.sql("select reason from transitions where stage = 'payment' and from_state is null")
    } == {"extract and classify are done"}
    done = own.sql("select reason from transitions where stage = 'payment' and to_state = 'done'")
    assert [row["reason"] for row in done] == ["its condition is not met"] * 2
    assert own.sql("select 1 from outbox where stage = 'payment' and reused_from is not null") == []


def test_the_parts_of_a_long_document_are_joined_without_another_call(engine: Engine) -> None:
    engine.use_stages(
        money={"prompt": "Which amounts?", "answer": {"payee": "string", "amounts": ["number"]}, "quotes": True}
    )
    parts = [f"Part {number}: the amount is {number * 111} EUR.\n{FILLER}" for number in range(1, 5)]
    engine.extracted("book.txt", texts={"book.txt": "\n\n".join(parts)})
    engine.drain(stage="money", deep_context_tokens=4096)
    value = record(engine, "book.txt", "money")["value"]
    assert value["parts"] == value["parts_read"] == len(engine.router.completions()) > 1
    assert {1.0, 2.0, 3.0, 4.0} == set(value["amounts"])
    text = "\n\n".join(parts)
    for amount, quote in zip(value["amounts"], value["quotes"]["amounts"], strict=True):
        assert str(int(amount)) == text[quote["start"] : quote["end"]]


def test_a_value_that_its_quote_does_not_state_gets_one_more_question_and_is_marked(own: Engine) -> None:
    own.router.set(answers="invented")
    own.extracted("a.txt", texts={"a.txt": INVOICE})
    own.drain()
    value = record(own, "a.txt", "payment")["value"]
    assert (value["amount"], value["unsupported"]) == (1251.5, ["amount"])
    assert len(own.router.completions()) == 4


@pytest.mark.rule("stage-3")
def test_a_required_quote_drops_the_value_that_it_does_not_state(engine: Engine) -> None:
    engine.use_stages(payment={**PAYMENT, "quotes": "required"})
    engine.router.set(answers="invented")
    engine.extracted("a.txt", texts={"a.txt": INVOICE})
    engine.drain()
    value = record(engine, "a.txt", "payment")["value"]
    assert (value["amount"], value["currency"], value["unsupported"]) == (None, "EUR", ["amount"])


@pytest.mark.rule("stage-3")
def test_every_invented_value_is_marked_and_no_true_one(own: Engine) -> None:
    keys = [f"{n}.txt" for n in range(30)]
    own.extracted(
        *keys, texts={key: f"{INVOICE} {key}".replace("1250.50", f"{n * 37 + 100}.50") for n, key in enumerate(keys)}
    )
    own.drain(limit=20)
    own.router.set(answers="invented")
    own.drain()
    marked = {key for key in keys if record(own, key, "payment")["value"]["unsupported"]}
    lies = {key for n, key in enumerate(keys) if record(own, key, "payment")["value"]["amount"] != n * 37 + 100.5}
    assert marked == lies
    assert len(lies) == 10


def test_documents_that_wait_for_another_stage_do_not_hide_those_behind_them(own: Engine) -> None:
    keys = [f"{number:02}.txt" for number in range(20)]
    own.extracted(*keys, texts={key: f"{key} {INVOICE}" for key in keys})
    own.drain("classify")
    own.sql(
        "update work_items i set state = 'pending', not_before = clock_timestamp() + interval '1 hour' "
        "from documents d where d.document_id = i.document_id and i.stage = 'classify' and d.key <> '19.txt'"
    )
    assert own.drain("payment").done == 1
    assert record(own, "19.txt", "payment")["outcome"] == Outcome.OK


@pytest.mark.rule("drain-9")
def test_a_drain_of_a_stage_shows_for_which_stage_its_documents_wait(own: Engine) -> None:
    keys = ("1.txt", "2.txt", "3.txt")
    own.extracted(*keys, texts=dict.fromkeys(keys, INVOICE))
    summary = own.drain("payment")
    assert (summary.done, summary.left, summary.waits_for) == (0, 0, {"classify": 3})
    assert own.router.completions() == []
    own.drain("classify", limit=1)
    assert own.drain("payment").waits_for == {"classify": 2}
    assert own.drain().waits_for == {}


def test_a_drain_shows_the_first_stage_that_is_missing_even_if_another_stands_between(own: Engine) -> None:
    own.use_stages(
        payment=PAYMENT,
        check={"prompt": "Is it late?", "answer": {"late": "boolean"}, "when": {"payment": {"currency": ["EUR"]}}},
    )
    own.extracted("invoice.txt", texts={"invoice.txt": INVOICE})
    assert own.drain("check").waits_for == {"classify": 1}
    own.drain("classify")
    assert own.drain("check").waits_for == {"payment": 1}


SENDER = {"prompt": "Who wrote it?", "answer": {"sender": {"type": "string", "canonical": True}}}


@pytest.mark.rule("stage-6")
def test_a_canonical_field_takes_the_name_that_another_document_has(engine: Engine) -> None:
    engine.use_stages(who=SENDER)
    texts = {"a.txt": f"The sender: CITY WORKS MUNICH\n{FILLER}", "b.txt": f"sender: City works of Munich\n{FILLER}"}
    engine.extracted("a.txt", texts=texts)
    engine.drain("who")
    first = record(engine, "a.txt", "who")["value"]["sender"]
    engine.sql("update results set value = '{\"sender\": \"City Works Munich\"}' where stage = 'who'")
    assert first == "The sender: CITY WORKS MUNICH"
    engine.extracted("b.txt", texts=texts)
    engine.drain("who")
    assert record(engine, "b.txt", "who")["value"]["sender"] == "City Works Munich"
    assert engine.counts("who").outdated == 0  # the offer is not part of the recipe


def test_the_newest_values_are_offered_first_and_unsupported_ones_never(engine: Engine) -> None:
    engine.use_stages(who={**SENDER, "quotes": True})
    for number, (name, unsupported) in enumerate([("Old", []), ("Lie", ["sender"]), ("New", []), ("Old", [])]):
        engine.sql(
            "insert into results (stage, input_digest, recipe, outcome, value, output_digest, first_document) "
            "values ('who', %s, 'r', 'ok', %s, '', '')",
            str(number),
            Jsonb({"sender": name, "unsupported": unsupported}),
        )
    engine.sql(
        "insert into results (stage, input_digest, recipe, outcome, value, output_digest, first_document) "
        "select 'who', 'x' || n, 'r', 'ok', jsonb_build_object('sender', 'S' || n), '', '' from generate_series(1, 150) n"
    )
    values = engine.ledger.run(used_values, "who", ["sender"])["sender"]
    assert values == [f"S{number}" for number in range(150, 50, -1)]
    engine.sql("delete from results where input_digest like 'x%%'")
    assert engine.ledger.run(used_values, "who", ["sender"]) == {"sender": ["Old", "New"]}


def test_the_records_of_a_stage_have_the_fields_of_its_json_schema(engine: Engine) -> None:
    (engine.library.parent / "money.json").write_text(
        '{"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}, '
        '"due": {"type": ["string", "null"], "format": "date"}}}'
    )
    engine.use_stages(money={"prompt": "What must be paid?", "schema": "money.json"})
    engine.extracted("a.txt", texts={"a.txt": INVOICE})
    engine.drain("money")
    assert record(engine, "a.txt", "money")["value"] == {"amount": 1250.5, "due": "2025-03-04"}
