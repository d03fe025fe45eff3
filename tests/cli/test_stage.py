"""`stage`: tries that show what a prompt would answer, and record nothing."""

import json
import os
import unicodedata
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.simulator import Router
from tests.support.cli import Call, scan_and_extract

PIPELINE = """
stages:
  price:
    prompt: What does it cost?
    answer: {item: string, amount: number}
"""


@pytest.fixture
def own(library: Path, with_ledger: str, router: Router, tmp_path: Path) -> Path:
    """A scanned library of two documents and a pipeline with the stage `price`."""
    (tmp_path / "offload.yaml").write_text(PIPELINE)
    os.environ |= {
        "OFFLOAD_CONFIG": str(tmp_path / "offload.yaml"),
        "OFFLOAD_DEEP_URL": router.url,
        "OFFLOAD_DEEP_MODEL": "qwen-macbook",
    }
    scan_and_extract()
    return library


def recorded(url: str) -> int:
    with Ledger(url) as ledger, ledger.transaction() as cur:
        return len(cur.execute("select from results where stage <> 'extract'").fetchall())


def test_a_try_shows_the_answer_and_its_cost_and_records_nothing(call: Call, own: Path, with_ledger: str) -> None:
    shown = call("stage", "try", "price", str(own / "minutes.md"))
    assert shown.exit_code == 0
    assert "  amount             300\n" in shown.output
    assert shown.output.index("  item ") < shown.output.index("  amount ")  # in the order of the stage
    assert "1 call," in shown.output
    assert recorded(with_ledger) == 0


def test_a_try_with_another_prompt_shows_the_difference_to_the_record(call: Call, own: Path, tmp_path: Path) -> None:
    drain()
    same = call("stage", "try", "price", str(own / "minutes.md"))
    assert "the same as the record" in same.output
    (own / "minutes.md").write_text("Decided: buy a printer for 400 euros.")
    (tmp_path / "new.txt").write_text("How much?")
    changed = call("stage", "try", "price", str(own / "minutes.md"), "--prompt-file", str(tmp_path / "new.txt"))
    assert "-amount             300" in changed.output
    assert "+amount             400" in changed.output


def test_the_stored_record_in_json_has_the_order_of_the_answer(call: Call, own: Path) -> None:
    call("drain")
    for stage in ("price", "summarize"):
        [tried] = json.loads(call("stage", "try", stage, str(own / "minutes.md"), "--json").stdout)["tried"]
        assert list(tried["stored"]) == list(tried["value"])
        assert tried["stored"] == tried["value"]


def test_a_sample_is_the_same_for_the_same_seed(call: Call, own: Path, tmp_path: Path) -> None:
    page = tmp_path / "sample.html"
    first = json.loads(call("stage", "sample", "price", "-n", "1", "--seed", "7", "--json").output)
    again = json.loads(call("stage", "sample", "price", "-n", "1", "--seed", "7", "--json", "--html", str(page)).stdout)
    assert first["tried"][0]["document"] == again["tried"][0]["document"]
    text = page.read_text()
    assert "<h1>Answers of the stage price</h1>" in text
    assert "A sample: nothing is recorded." in text
    assert "done" not in text.partition("<main>")[2].partition("<script>")[0], "nothing of it is in the ledger"


def test_a_sample_asks_only_about_documents_that_meet_the_condition(call: Call, own: Path, tmp_path: Path) -> None:
    condition = "    when: {classify: {category: [minutes]}}\n"
    (tmp_path / "offload.yaml").write_text(PIPELINE + condition)
    nothing = call("stage", "sample", "price")
    assert nothing.exit_code == 2
    assert "its condition is not met" in nothing.output  # the class of no document is known
    drain("classify")
    tried = json.loads(call("stage", "sample", "price", "--json").output)["tried"]
    assert [each["document"] for each in tried] == ["minutes.md"]


def test_a_stage_that_reads_a_record_is_tried_on_the_record(
    call: Call, own: Path, tmp_path: Path, router: Router
) -> None:
    (tmp_path / "offload.yaml").write_text(PIPELINE + "    reads: summarize\n")
    refused = call("stage", "try", "price", str(own / "minutes.md"))
    assert "has nothing that price reads" in refused.output
    drain("summarize")
    before = {entry["document"] for entry in router.completions()}
    assert call("stage", "try", "price", str(own / "minutes.md")).exit_code == 0
    assert router.completions()[-1]["document"] not in before


def test_a_try_takes_the_name_of_a_document_and_refuses_a_folder(call: Call, own: Path) -> None:
    for name in ("minutes.md", "minutes"):
        assert json.loads(call("stage", "try", "price", name, "--json").stdout)["tried"][0]["value"]["amount"] == 300
    folder = call("stage", "try", "price", str(own))
    assert (folder.exit_code, f"{own} is a folder: name a file" in folder.output) == (2, True)
    unknown = call("stage", "try", "price", "minuets.md")
    assert unknown.exit_code == 2
    assert "no such document: minuets.md" in unknown.output
    assert "Did you mean minutes.md?" in unknown.output


def test_a_try_refuses_a_file_that_cannot_be_read_with_its_reason(call: Call, own: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    refused = call("stage", "try", "price", str(tmp_path / "pipe.txt"))
    assert refused.exit_code == 2
    assert f"{tmp_path / 'pipe.txt'}: not a regular file, but a pipe" in refused.output


def test_a_try_without_a_usable_answer_shows_what_the_model_wrote_and_fails(
    call: Call, own: Path, router: Router, with_ledger: str
) -> None:
    router.set(answers="garbage")
    shown = call("stage", "try", "price", "minutes.md")
    assert shown.exit_code == 1
    assert "  the model wrote:\n    I would rather not answer in JSON.\n" in shown.stdout
    found = call("stage", "try", "price", str(own / "minutes.md"), "--json")
    [tried] = json.loads(found.stdout)["tried"]
    assert (found.exit_code, tried["document"], tried["value"]) == (1, "minutes.md", None)
    assert tried["answer"] == "I would rather not answer in JSON."
    sampled = call("stage", "sample", "price", "-n", "1")
    assert sampled.exit_code == 1
    assert "I would rather not answer in JSON." in sampled.stdout
    with Ledger(with_ledger) as ledger, ledger.transaction() as cur:
        assert cur.execute("select from refused_answers").fetchall() == []


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_tried(
    call: Call, own: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    files = (str(tmp_path / "pipe.txt"), "no such document.txt", "minutes.md")
    shown = call("stage", "try", "price", *files)
    assert shown.exit_code == 2
    assert "  amount             300\n" in shown.output
    assert "pipe.txt: not a regular file, but a pipe" in shown.stderr
    assert "no such document: no such document.txt" in shown.stderr
    found = json.loads(call("stage", "try", "price", *files, "--json").stdout)
    assert [each["document"] for each in found["tried"]] == ["minutes.md"]
    assert "not a regular file" in found["error"]


@pytest.mark.parametrize("options", [(), ("--stored",)])
def test_a_check_finds_documents_by_any_spelling_of_their_key_and_refuses_unknown_ones(
    call: Call, own: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (own / unicodedata.normalize("NFC", "übersicht.txt")).write_text("Decided: buy a printer for 300 euros.")
    call("scan")
    call("drain")
    file = tmp_path / "expected.jsonl"
    spelled = [unicodedata.normalize("NFD", "übersicht.txt"), str(own / "minutes.md")]
    file.write_text("\n".join(json.dumps({"document": name, "amount": 300}) for name in spelled))
    checked = call("stage", "check", "price", "--expected", str(file), "--json", *options)
    assert (checked.exit_code, json.loads(checked.stdout)["share"]) == (0, 1.0)
    file.write_text('{"document": "minuets.md", "amount": 300}')
    refused = call("stage", "check", "price", "--expected", str(file), "--at-least", "0.5", *options)
    assert refused.exit_code == 2
    assert f"{file}: no such document: minuets.md (is it in the library" in refused.output


def test_a_try_says_if_the_condition_of_the_stage_is_not_met(call: Call, own: Path, tmp_path: Path) -> None:
    (tmp_path / "offload.yaml").write_text(PIPELINE + "    when: {classify: {category: [minutes]}}\n")
    note = "a drain would not ask price about this document: its condition"
    unknown = call("stage", "try", "price", "letter.txt")
    assert (unknown.exit_code, note in unknown.output) == (0, False), "the class is not known yet"
    drain("classify")
    assert note in call("stage", "try", "price", str(own / "letter.txt")).output
    tried = json.loads(call("stage", "try", "price", "letter.txt", "minutes.md", "--json").stdout)["tried"]
    assert [each["applies"] for each in tried] == [False, True]


def test_a_field_called_like_a_column_of_the_page_is_shown_beside_it(call: Call, own: Path, tmp_path: Path) -> None:
    (tmp_path / "offload.yaml").write_text(PIPELINE.replace("item: string", "state: integer, path: [string]"))
    page = tmp_path / "sample.html"
    assert call("stage", "sample", "price", "-n", "1", "--html", str(page)).exit_code == 0
    assert "<dt>price.state</dt>" in page.read_text()
    assert '<article class="">' in page.read_text()


def test_a_page_that_cannot_be_written_names_its_place_and_no_option_of_another_command(
    call: Call, own: Path, tmp_path: Path
) -> None:
    page = tmp_path / "missing" / "sample.html"
    refused = call("stage", "sample", "price", "-n", "1", "--html", str(page))
    assert (refused.exit_code, "--out" in refused.output) == (2, False)
    assert f"{page} cannot be written: " in " ".join(refused.output.split())


def test_a_check_gives_the_share_of_right_values_and_an_exit_code(call: Call, own: Path, tmp_path: Path) -> None:
    expected = tmp_path / "expected.jsonl"
    expected.write_text('{"document": "minutes.md", "amount": 300}\n\n{"document": "letter.txt", "amount": 1}\n')
    checked = call("stage", "check", "price", "--expected", str(expected), "--at-least", "0.9")
    assert checked.exit_code == 1
    assert "50.0% of all expected values are right" in checked.output
    drain()
    stored = call("stage", "check", "price", "--expected", str(expected), "--stored", "--at-least", "0.5", "--json")
    assert (stored.exit_code, json.loads(stored.output)["share"]) == (0, 0.5)


def test_expected_answers_may_hold_any_character_and_must_be_utf_8(call: Call, own: Path, tmp_path: Path) -> None:
    file = tmp_path / "expected.jsonl"
    file.write_text('{"document": "minutes.md", "item": "a\u2028b"}\n', encoding="utf-8")
    assert call("stage", "check", "price", "--expected", str(file), "--stored").exit_code == 0
    file.write_bytes(b"\xff\xfe{}")
    assert "cannot be read as text in UTF-8" in call("stage", "check", "price", "--expected", str(file)).output


@pytest.mark.parametrize("line", ["not JSON", "[]", '{"amount": 3}', "5"])
def test_a_wrong_line_of_expected_answers_is_named(call: Call, own: Path, tmp_path: Path, line: str) -> None:
    (tmp_path / "expected.jsonl").write_text(f'{{"document": "letter.txt", "amount": 1}}\n{line}\n')
    refused = call("stage", "check", "price", "--expected", str(tmp_path / "expected.jsonl"))
    assert refused.exit_code == 2
    assert "expected.jsonl:2:" in refused.output


def test_an_expected_field_that_the_stage_does_not_have_is_refused_with_the_nearest(
    call: Call, own: Path, tmp_path: Path
) -> None:
    (tmp_path / "expected.jsonl").write_text('{"document": "letter.txt", "amonut": 1}\n')
    refused = call("stage", "check", "price", "--expected", str(tmp_path / "expected.jsonl"))
    assert refused.exit_code == 2
    assert "expected.jsonl:1: the answer of price has no field 'amonut' (did you mean amount?)" in refused.output


def test_an_expected_value_that_no_answer_can_have_is_refused(call: Call, own: Path, tmp_path: Path) -> None:
    file = tmp_path / "expected.jsonl"
    file.write_text('{"document": "letter.txt", "category": "Letter"}\n{"document": "b", "category": "invoices"}\n')
    refused = call("stage", "check", "classify", "--expected", str(file), "--stored")
    assert refused.exit_code == 2
    said = "expected.jsonl:2: no answer can have this value: category: 'invoices' is no class (did you mean invoice?)"
    assert said in " ".join(refused.output.split())
    file.write_text('{"document": "letter.txt", "amount": "much"}\n')
    refused = call("stage", "check", "price", "--expected", str(file), "--stored")
    assert "expected.jsonl:1: no answer can have this value: amount: must be a number" in refused.output


def test_a_check_shows_the_wrong_values(call: Call, own: Path, tmp_path: Path) -> None:
    file = tmp_path / "expected.jsonl"
    file.write_text('{"document": "minutes.md", "amount": "1.234,50", "item": null}\n')
    checked = call("stage", "check", "price", "--expected", str(file), "--stored")
    assert "wrong: minutes.md: amount is nothing, not 1234.5" in checked.output
    as_json = json.loads(call("stage", "check", "price", "--expected", str(file), "--stored", "--json").stdout)
    assert as_json["wrong"] == [{"document": "minutes.md", "field": "amount", "answer": None, "expected": 1234.5}]


def test_an_unavailable_slot_ends_a_try_with_the_code_for_it(call: Call, own: Path, router: Router) -> None:
    router.set(mode="cold")
    refused = call("stage", "try", "price", str(own / "letter.txt"))
    assert refused.exit_code == 75


def test_a_stage_that_does_not_exist_is_refused_with_the_nearest(call: Call, own: Path) -> None:
    refused = call("stage", "try", "prise", str(own / "letter.txt"))
    assert refused.exit_code == 2
    assert "did you mean price?" in refused.output


def test_the_list_names_every_stage(call: Call, own: Path) -> None:
    stages = json.loads(call("stage", "list", "--json").output)["stages"]
    assert [stage["stage"] for stage in stages] == ["extract", "classify", "summarize", "price"]
