"""Records out of the ledger: what is selected, in which form it is written, and what a broken export leaves behind."""

import csv
import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from ruamel.yaml import YAML

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.records import Query, export
from dagster_offload.records.columns import columns
from dagster_offload.records.reading import stream
from dagster_offload.stage_spec.stage import name_problem
from tests.support.engine import FILLER, Engine

PAYMENT: dict[str, Any] = {
    "prompt": "What must be paid?",
    "answer": {"amount": "number", "due": "date", "select": "string", "urgent": "boolean", "parties": ["string"]},
    "when": {"classify": {"category": "invoice"}},
    "quotes": True,
}
TEXTS = {
    "b/청구서.txt": f"Invoice of 2025-03-04. Amount due: 1250.5 EUR. 난방비를 냅니다. VAT included.\n{FILLER}",
    "a.txt": f"Dear Sir, kind regards, yours faithfully, sincerely.\n{FILLER}",
    "c.txt": f"Invoice, amount due 80 EUR, VAT 100%_sure.\n{FILLER}",
}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    """Three documents, two of them invoices with a payment, and one that is not answered yet."""
    engine.use_stages(payment=PAYMENT)
    engine.extracted(*TEXTS, texts=TEXTS)
    engine.drain()
    engine.texts("waiting.txt")
    return engine


def found(engine: Engine, *where: str, **query: Any) -> list[str]:
    return [record["document"] for record in records(engine, Query(where=where, **query))]


def records(engine: Engine, query: Query | None = None, *, with_text: bool = False) -> Iterator[dict[str, Any]]:
    return stream(engine.settings(), engine.ledger, query or Query(), with_text=with_text)


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


def test_a_condition_compares_the_columns_of_the_document_itself_as_records_show_them(filled: Engine) -> None:
    filled.sql(
        "update work_items set state = 'failed', reason = 'no_json: none' where stage = 'summarize' and state = 'pending'"
    )
    rows = list(records(filled))
    assert {row["reason"] for row in rows} >= {None, "no_json: none"}
    for name in ("document", "state", "reason", "outcome", "served_model"):
        for value in {row[name] for row in rows}:
            having = [row["document"] for row in rows if row[name] == value]
            assert found(filled, f"{name}={value or ''}") == having


def test_a_condition_compares_true_and_false(filled: Engine) -> None:
    def answer(document: str, urgent: str) -> None:
        change = "update results set value = value || %s::jsonb where stage = 'payment' and first_document = %s"
        filled.sql(change, f'{{"urgent": {urgent}}}', document)

    answer("b/청구서.txt", "true")
    answer("c.txt", "false")
    assert found(filled, "payment.urgent=true") == found(filled, "payment.urgent!=False") == ["b/청구서.txt"]
    assert found(filled, "payment.urgent=false") == found(filled, "payment.urgent~false") == ["c.txt"]
    answer("c.txt", "null")
    assert found(filled, "payment.urgent!=true") == []
    assert found(filled, "payment.urgent=") == ["a.txt", "c.txt", "waiting.txt"]


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
        ({"where": ["kategory=x"]}, "did you mean 'category'?"),
        ({"where": ["category"]}, "write FIELD=VALUE"),
        ({"where": ["payment.amount>much"]}, "is a number"),
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
        ({"where": ["corrected=payment.amout"]}, "did you mean 'payment.amount'?"),
        ({"where": ["category=\0"]}, "is not text"),
        ({"search": "\udcff"}, "is not text"),
    ],
)
def test_a_mistake_in_a_query_is_named(filled: Engine, query: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=r".") as caught:
        next(records(filled, Query(**query)), None)
    assert message in str(caught.value)


def written(engine: Engine, form: str, file: Path) -> Path:
    export.write_file(records(engine), columns(engine.settings()), form, file)
    return file


def test_csv_and_parquet_read_by_other_libraries_are_equal(filled: Engine, tmp_path: Path) -> None:
    with written(filled, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        in_csv = list(csv.DictReader(file))
    in_parquet = pyarrow.parquet.read_table(written(filled, "parquet", tmp_path / "r.parquet")).to_pylist()
    assert [row["document"] for row in in_csv] == [row["document"] for row in in_parquet] == found(filled)
    for plain, typed in zip(in_csv, in_parquet, strict=True):
        assert plain.keys() == typed.keys()
        assert (plain["payment.amount"] or None) == (None if (n := typed["payment.amount"]) is None else str(n))
        assert plain["payment.due"] == ("" if typed["payment.due"] is None else typed["payment.due"].isoformat())
        assert plain["summary"] == (typed["summary"] or "")
        assert json.loads(plain["key_points"] or "null") == json.loads(typed["key_points"] or "null")


def test_answers_of_another_form_than_the_stage_has_now_are_empty_cells(filled: Engine, tmp_path: Path) -> None:
    changed = {"amount": "date", "due": "number", "select": "boolean", "parties": "datetime"}
    filled.use_stages(payment=PAYMENT | {"answer": changed})
    with written(filled, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert {row[f"payment.{name}"] for row in csv.DictReader(file) for name in changed} == {""}
    rows = pyarrow.parquet.read_table(written(filled, "parquet", tmp_path / "r.parquet")).to_pylist()
    assert {row[f"payment.{name}"] for row in rows for name in changed} == {None}


def test_no_stage_of_ones_own_can_hide_a_key_of_a_record(filled: Engine) -> None:
    keys = next(records(filled, Query(documents=["a.txt"]), with_text=True)).keys() - {"payment"}
    assert [key for key in keys if name_problem(key) is None] == []


def test_every_line_of_jsonl_is_a_record(filled: Engine, tmp_path: Path) -> None:
    lines = written(filled, "jsonl", tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(records(filled))


def test_a_cell_that_a_spreadsheet_would_run_is_text_in_csv(filled: Engine, tmp_path: Path) -> None:
    filled.sql("update results set value = value || '{\"title\": \"=cmd|calc\"}' where stage = 'summarize'")
    with written(filled, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        titles = {row["title"] for row in csv.DictReader(file)}
    assert titles == {"'=cmd|calc", ""}


def test_the_html_page_runs_and_loads_nothing_of_a_document(filled: Engine, tmp_path: Path) -> None:
    filled.sql(
        "update results set value = value || '{\"title\": \"<script>alert(1)</script>\"}' where stage = 'summarize'"
    )
    page = written(filled, "html", tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


def notes(engine: Engine, folder: Path, query: Query | None = None) -> export.Exported:
    return export.write_notes(records(engine, query), columns(engine.settings()), folder, engine.library)


def test_a_note_has_its_fields_as_front_matter_that_yaml_reads(filled: Engine, tmp_path: Path) -> None:
    notes(filled, tmp_path / "notes")
    text = (tmp_path / "notes/b/청구서.txt.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    fields = YAML(typ="safe").load(front)
    assert (fields["document"], fields["payment.amount"], str(fields["payment.due"])) == (
        "b/청구서.txt",
        1250.5,
        "2025-03-04",
    )
    assert body.lstrip().startswith("# Invoice of 2025-03-04")


def test_a_second_export_touches_only_what_changed_and_removes_what_is_gone(filled: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    assert notes(filled, folder) == export.Exported(4, 4, 0)
    mine = folder / "b/mine.md"
    mine.write_text("my own note")
    before = os.stat(folder / "a.txt.md").st_mtime_ns
    filled.sql(
        "update results set value = value || '{\"title\": \"New\"}' where stage = 'summarize' and first_document = 'c.txt'"
    )
    filled.sql("update documents set is_present = false where key = 'b/청구서.txt'")
    assert notes(filled, folder) == export.Exported(3, 1, 1)
    assert os.stat(folder / "a.txt.md").st_mtime_ns == before
    assert mine.read_text() == "my own note"
    assert not (folder / "b/청구서.txt.md").exists()


def test_notes_never_go_into_the_library(filled: Engine) -> None:
    with pytest.raises(SettingsError, match="would become documents"):
        notes(filled, filled.library / "notes")


def test_notes_never_go_into_a_folder_that_contains_the_library(filled: Engine) -> None:
    with pytest.raises(SettingsError, match="contains the library"):
        notes(filled, filled.library.parent)
    assert not (filled.library.parent / export.MANIFEST).exists()


def test_a_damaged_list_of_notes_removes_nothing(filled: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    notes(filled, folder)
    (folder / export.MANIFEST).write_text("{")
    with pytest.raises(SettingsError, match="is damaged"):
        notes(filled, folder)
    assert (folder / "a.txt.md").exists()


def test_a_list_of_notes_cannot_lead_out_of_the_folder(filled: Engine, tmp_path: Path) -> None:
    folder, outside = tmp_path / "notes", tmp_path / "outside.md"
    outside.write_text("mine")
    folder.mkdir()
    (folder / export.MANIFEST).write_text(json.dumps({"notes": ["../outside.md", str(outside)]}))
    notes(filled, folder)
    assert outside.exists()


def test_an_export_that_breaks_off_leaves_the_old_file_and_nothing_beside_it(filled: Engine, tmp_path: Path) -> None:
    file = written(filled, "csv", tmp_path / "r.csv")
    before = file.read_bytes()

    def breaking() -> Iterator[dict[str, Any]]:
        yield from records(filled)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        export.write_file(breaking(), columns(filled.settings()), "csv", file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"] or set(os.listdir(tmp_path)) >= {"r.csv"}
    assert not list(tmp_path.glob(".r.csv*"))


def test_a_place_that_cannot_be_written_is_named(filled: Engine, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written"):
        written(filled, "csv", tmp_path / "nowhere" / "r.csv")


def test_a_name_too_long_for_a_note_is_shortened_and_stays_unique() -> None:
    one, two = (export.note_name(f"a/{'가' * 84}{end}.pdf") for end in "12")
    assert one != two
    assert len(one.rpartition("/")[2].encode()) <= 255


def test_every_column_of_a_file_is_in_a_view_too(filled: Engine, ledger_url: str) -> None:
    with open_ledger(filled.settings(postgres_url=ledger_url)):
        pass
    [wide] = filled.sql("select * from records where document = 'c.txt'")
    [payment] = filled.sql("select * from record_payment where document = 'c.txt'")
    missing = [
        column.name
        for column in columns(filled.settings())
        if column.name != "path"
        and (column.field not in payment if column.stage == "payment" else column.name not in wide)
    ]
    assert missing == []
    assert (wide["state"], wide["stages"]["payment"]["amount"], payment["amount"]) == ("done", 80, 80)
