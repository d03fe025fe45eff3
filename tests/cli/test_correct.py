"""`correct`: what a person types, and what `records`, `explain` and `status` show of it."""

import json
from pathlib import Path

import pytest

from dagster_offload.drain import drain
from tests.support.cli import Call, scan_and_extract


def test_a_correction_is_shown_where_the_record_is_until_it_is_cleared(call: Call, answered: Path) -> None:
    letter = str(answered / "letter.txt")
    assert call("correct", letter, "--set", "category=contract", "--note", "it was signed").exit_code == 0
    record = json.loads(call("records", "letter.txt", "--json").output)
    assert (record["category"], record["corrected"]) == ("contract", ["category"])
    shown = call("explain", "letter.txt").output
    assert "corrected by a person: category" in shown
    assert "it was signed" in shown
    [listed] = json.loads(call("correct", "--list", "--json").output)["corrections"]
    assert (listed["document"], listed["value"]) == ("letter.txt", "contract")
    assert call("correct", letter, "--clear", "category").exit_code == 0
    assert json.loads(call("records", "letter.txt", "--json").output)["category"] == listed["answered"]
    assert call("correct", "--list").output == "no corrections\n"


def test_a_changed_file_is_up_for_review_in_status_and_explain(call: Call, answered: Path) -> None:
    call("correct", "letter.txt", "--set", "category=contract")
    (answered / "letter.txt").write_text("Dear Sir, this is another letter. Kind regards.")
    scan_and_extract()
    assert json.loads(call("status", "--json").output)["corrections_for_review"] == 1
    assert "1 file has changed since you corrected" in call("status").output
    assert "does not count" in " ".join(call("explain", "letter.txt").output.split())
    assert call("correct", "letter.txt", "--keep").exit_code == 0
    assert json.loads(call("status", "--json").output)["corrections_for_review"] == 0
    again = call("correct", "letter.txt", "--keep")
    assert (again.exit_code, "waits for a review" in again.output) == (2, True)


def test_a_correction_shows_what_it_changes(call: Call, answered: Path) -> None:
    was = json.loads(call("records", "letter.txt", "--json").output)
    call("correct", "letter.txt", "--set", "confidence=1")
    shown = call("correct", "letter.txt", "--set", "confidence=0.5", "--set", "key_points.0=안녕").stderr
    assert "  confidence: 1 → 0.5\n" in shown
    assert f'  key_points.0: {json.dumps(was["key_points"][0], ensure_ascii=False)} → "안녕"\n' in shown


def test_an_empty_note_removes_the_note(call: Call, answered: Path) -> None:
    def note() -> object:
        return json.loads(call("correct", "--list", "--json").output)["corrections"][0]["note"]

    call("correct", "letter.txt", "--set", "category=contract", "--note", "it was signed")
    call("correct", "letter.txt", "--set", "category=contract")
    assert note() == "it was signed"
    call("correct", "letter.txt", "--set", "category=contract", "--note", "")
    assert not note()


@pytest.mark.rule("correction-3")
def test_a_correction_of_a_stage_that_is_not_applicable_says_when_it_counts(
    call: Call, answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = '{prompt: Who?, answer: {payee: "string?"}, when: {classify: {category: invoice}}}'
    (tmp_path / "offload.yaml").write_text(f"stages: {{payment: {stage}}}\n")
    monkeypatch.setenv("OFFLOAD_CONFIG", str(tmp_path / "offload.yaml"))
    drain()
    told = call("correct", "letter.txt", "--set", "payment.payee=Anna")
    assert "payment: its condition (`when`) is not met" in told.stderr
    assert json.loads(call("records", "letter.txt", "--json").output)["payment"] is None
    listed = " ".join(call("correct", "--list").output.split())
    assert "counts once it is met" in listed
    told = call("correct", "letter.txt", "--set", "category=invoice", "--set", "payment.payee=Anna")
    assert "not met" not in told.stderr


@pytest.mark.rule("correction-1")
def test_a_part_of_a_field_is_cleared_by_the_name_by_which_it_is_set(call: Call, answered: Path) -> None:
    def points() -> list[str]:
        found: list[str] = json.loads(call("records", "letter.txt", "--json").output)["key_points"]
        return found

    answer = points()
    new_place = f"key_points.{len(answer)}"
    assert call("correct", "letter.txt", "--set", "key_points.0=xx", "--set", f"{new_place}=yy").exit_code == 0
    assert points() == ["xx", *answer[1:], "yy"]
    refused = call("correct", "letter.txt", "--clear", new_place)
    assert (refused.exit_code, f"has no {new_place}: use --clear key_points" in refused.output) == (2, True)
    assert call("correct", "letter.txt", "--clear", "key_points.0").exit_code == 0
    assert points() == [*answer, "yy"]
    assert call("correct", "letter.txt", "--clear", "key_points").exit_code == 0
    call("correct", "letter.txt", "--set", "key_points.0=xx")
    assert call("correct", "letter.txt", "--clear", "key_points.0").exit_code == 0
    assert call("correct", "--list").output == "no corrections\n", "nothing else was corrected in it"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["letter.txt", "--set", "category=novel"], "is no class"),
        (["letter.txt", "--set", "kategory=letter"], "did you mean category?"),
        (["letter.txt", "--clear", "category"], "there is no correction of category"),
        (["nowhere.txt", "--set", "category=letter"], "no such document: nowhere.txt"),
        (["letter.txt"], "name a DOCUMENT and one of"),
        (["letter.txt", "--keep", "--note", "x"], "--note goes with --set"),
    ],
)
def test_a_mistake_is_refused_and_changes_nothing(
    call: Call, answered: Path, arguments: list[str], message: str
) -> None:
    refused = call("correct", *arguments)
    assert refused.exit_code == 2
    assert message in " ".join(refused.output.split())
    assert call("correct", "--list").output == "no corrections\n"


def test_corrections_are_named_as_in_records_also_without_the_pipeline_file(call: Call, answered: Path) -> None:
    Path("offload.yaml").write_text(
        "stages: {price: {prompt: What does it cost?, answer: {item: string, amount: number}}}\n"
    )
    assert call("drain").exit_code == 0
    call("correct", "letter.txt", "--set", "price.amount=7", "--set", "category=contract")
    Path("offload.yaml").unlink()
    shown = call("correct", "--list").output
    assert "price.amount" in shown
    assert "category" in shown
    assert "classify.category" not in shown
