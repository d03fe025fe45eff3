"""Records out of the ledger: what a record has, and which records a query selects."""

import unicodedata
from typing import Any

import pytest

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.records import Query
from dagster_offload.records.columns import columns
from dagster_offload.records.reading import stream
from dagster_offload.stage_spec.stage import name_problem
from tests.support.engine import Engine
from tests.support.records import PAYMENT, TEXTS, found, records


def test_a_record_has_the_document_its_state_and_the_fields_of_every_stage(filled: Engine) -> None:
    record = next(records(filled, Query(documents=["b/청구서.txt"]), with_text=True))
    assert (record["document"], record["state"], record["category"]) == ("b/청구서.txt", "done", "invoice")
    assert record["path"] == str(filled.library / "b/청구서.txt")
    assert (record["payment"]["amount"], record["payment"]["due"]) == (1250.5, "2025-03-04")
    assert record["payment"]["quotes"]["amount"]["text"] == "1250.5"
    assert record["text"] == TEXTS["b/청구서.txt"]
    assert record["summary"]
    assert record["served_model"]
    assert record["updated_at"]


def test_a_record_has_its_fields_in_the_order_of_the_stage(filled: Engine) -> None:
    own = next(records(filled, Query(documents=["b/청구서.txt"])))["payment"]
    assert list(own)[:5] == list(PAYMENT["answer"])
    assert list(own["quotes"]) == [name for name in own if name in own["quotes"]]


def test_a_page_has_the_first_records_that_match_in_the_order_of_their_keys(filled: Engine) -> None:
    def page(query: Query, most: int) -> list[str]:
        return [record["document"] for record in stream(filled.settings(), filled.ledger, query, most=most)]

    assert page(Query(), 2) == ["a.txt", "b/청구서.txt"]
    assert page(Query(where=["category=invoice"]), 1) == ["b/청구서.txt"]
    assert page(Query(), 9) == ["a.txt", "b/청구서.txt", "c.txt", "waiting.txt"]


def test_a_document_that_waits_is_a_record_with_its_state(filled: Engine) -> None:
    record = next(records(filled, Query(state=["pending"])))
    assert (record["document"], record["category"], record["payment"]) == ("waiting.txt", None, None)


@pytest.mark.parametrize(
    ("where", "documents"),
    [
        (["category=invoice"], ["b/청구서.txt", "c.txt"]),
        # A document without a value meets a condition only if the condition is that it has none.
        (["category!=invoice"], ["a.txt"]),
        (["category="], ["waiting.txt"]),
        (["category!="], ["a.txt", "b/청구서.txt", "c.txt"]),
        (["payment.amount!=80"], ["b/청구서.txt"]),
        (["payment.amount="], ["a.txt", "waiting.txt"]),
        (["payment.due!=2025-03-04"], []),
        (["payment.due="], ["a.txt", "c.txt", "waiting.txt"]),
        (["payment.amount>=100"], ["b/청구서.txt"]),
        (["payment.amount>=9.000,50"], []),
        (["payment.amount>=100,00"], ["b/청구서.txt"]),
        (["payment.amount>=1e2"], ["b/청구서.txt"]),
        (["payment.amount>=.5"], ["b/청구서.txt", "c.txt"]),
        (["payment.amount < 100"], ["c.txt"]),
        (["payment.due>2025-01-01"], ["b/청구서.txt"]),
        (["category~VOIC", "payment.amount>100"], ["b/청구서.txt"]),
        (["category=invoice' or '1'='1"], []),
        (['category~"'], []),
        (["payment.due~null"], []),
        (["payment.due>=20250304"], ["b/청구서.txt"]),
        (["document~청구"], ["b/청구서.txt"]),
        (["document=c.txt"], ["c.txt"]),
        (["state!=done"], ["waiting.txt"]),
        (["outcome=ok", "state=done"], ["a.txt", "b/청구서.txt", "c.txt"]),
        (["served_model="], ["waiting.txt"]),
        (["reason!="], []),
        (["corrected!="], []),
    ],
)
def test_conditions_select_by_fields_of_all_stages(filled: Engine, where: list[str], documents: list[str]) -> None:
    assert found(filled, *where) == documents


def test_a_condition_compares_the_columns_of_the_document_itself_as_records_show_them(own: Engine) -> None:
    own.sql(
        "update work_items set state = 'failed', reason = 'no_json: none' where stage = 'summarize' and state = 'pending'"
    )
    rows = list(records(own))
    assert {row["reason"] for row in rows} >= {None, "no_json: none"}
    for name in ("document", "state", "reason", "outcome", "served_model"):
        for value in {row[name] for row in rows}:
            having = [row["document"] for row in rows if row[name] == value]
            assert found(own, f"{name}={value or ''}") == having


def test_a_condition_compares_true_and_false(own: Engine) -> None:
    def answer(document: str, urgent: str) -> None:
        change = "update results set value = value || %s::jsonb where stage = 'payment' and first_document = %s"
        own.sql(change, f'{{"urgent": {urgent}}}', document)

    answer("b/청구서.txt", "true")
    answer("c.txt", "false")
    assert found(own, "payment.urgent=true") == found(own, "payment.urgent!=False") == ["b/청구서.txt"]
    assert found(own, "payment.urgent=false") == found(own, "payment.urgent~false") == ["c.txt"]
    answer("c.txt", "null")
    assert found(own, "payment.urgent!=true") == []
    assert found(own, "payment.urgent=") == ["a.txt", "c.txt", "waiting.txt"]


@pytest.mark.parametrize(
    ("words", "documents"),
    [
        ("난방", ["b/청구서.txt"]),
        ("INVOICE vat", ["b/청구서.txt", "c.txt"]),
        ("100%_sure", ["c.txt"]),
        ("청구", ["b/청구서.txt"]),
        (unicodedata.normalize("NFD", "청구 난방비"), ["b/청구서.txt"]),
        ("nowhere", []),
        ("title", []),  # a field's name is not a word of a record
        ("text/plain", []),
    ],
)
def test_a_search_finds_parts_of_words_in_texts_names_and_records(
    filled: Engine, words: str, documents: list[str]
) -> None:
    assert found(filled, search=words) == documents


def test_one_condition_and_one_state_need_no_list(filled: Engine) -> None:
    given = Query(where="category=invoice", state="done")
    assert [record["document"] for record in records(filled, given)] == ["b/청구서.txt", "c.txt"]


def test_only_what_changed_since_is_selected(filled: Engine) -> None:
    assert len(found(filled, changed_since="1h")) == 4
    assert found(filled, changed_since="2999-01-01") == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"where": ["kategory=x"]}, "did you mean category?"),
        ({"where": ["category"]}, "write FIELD=VALUE"),
        ({"where": ["payment.amount>much"]}, "is a number"),
        ({"where": ["payment.amount>12.05.2025"]}, "payment.amount is a number, and '12.05.2025' is not"),
        ({"where": ["payment.amount>1,234"]}, "1,234 can be 1234 or 1.234: write one of them"),
        ({"where": ["confidence>85%"]}, "is a number"),
        ({"state": ["finished"]}, "there is no state 'finished'"),
        ({"changed_since": "yesterday"}, "write an age"),
        ({"changed_since": "99999999w"}, "write an age"),
        ({"changed_since": "0001-01-01"}, "write an age"),
        ({"where": ["payment.amount>٣"]}, "is a number"),
        ({"where": ["payment.due>=01.05.2025"]}, "due is a date, and '01.05.2025' is not: write 2025-05-01"),
        ({"where": ["payment.due=5/1/2025"]}, "write a date such as 2025-05-01"),
        ({"where": ["payment.due=31.02.2025"]}, "write a date such as 2025-05-01"),
        ({"where": ["payment.urgent=yes"]}, "write payment.urgent=true or payment.urgent=false"),
        ({"where": ["payment.urgent>true"]}, "is true or false"),
        ({"where": ["state=finished"]}, "there is no state 'finished'"),
        ({"where": ["path~b"]}, "use document"),
        ({"where": ["updated_at>2025-01-01"]}, "use --changed-since"),
        ({"where": ["corrected=payment.amout"]}, "did you mean payment.amount?"),
        ({"where": ["category=\0"]}, "is not text"),
        ({"search": "\udcff"}, "is not text"),
    ],
)
def test_a_mistake_in_a_query_is_named(filled: Engine, query: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=r".") as caught:
        next(records(filled, Query(**query)), None)
    assert message in str(caught.value)


def test_no_stage_of_ones_own_can_hide_a_key_of_a_record(filled: Engine) -> None:
    keys = next(records(filled, Query(documents=["a.txt"]), with_text=True)).keys() - {"payment"}
    assert [key for key in keys if name_problem(key) is None] == []


def test_every_column_of_a_file_is_in_a_view_too(own: Engine, ledger_url: str) -> None:
    with open_ledger(own.settings(postgres_url=ledger_url)):
        pass
    [wide] = own.sql("select * from records where document = 'c.txt'")
    [payment] = own.sql("select * from record_payment where document = 'c.txt'")
    missing = [
        column.name
        for column in columns(own.settings())
        if column.name != "path"
        and (column.field not in payment if column.stage == "payment" else column.name not in wide)
    ]
    assert missing == []
    assert (wide["state"], wide["stages"]["payment"]["amount"], payment["amount"]) == ("done", 80, 80)
