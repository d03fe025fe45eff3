"""`records` and `psql`: what a person reads, and what scripts get."""

import csv
import io
import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from dagster_offload import records
from dagster_offload.errors import SettingsError
from tests.support.cli import Call


def test_records_are_a_table_a_csv_and_json(call: Call, answered: Path) -> None:
    table = call("records")
    assert table.exit_code == 0
    assert "letter.txt" in table.output
    rows = list(csv.DictReader(io.StringIO(call("records", "--format", "csv").output)))
    assert [row["document"] for row in rows] == ["letter.txt", "minutes.md"]
    both = json.loads(call("records", "--json").output)["records"]
    assert [record["document"] for record in both] == ["letter.txt", "minutes.md"]


def test_one_document_is_shown_by_its_key_or_its_path(call: Call, answered: Path) -> None:
    shown = call("records", str(answered / "letter.txt"), "--text")
    assert "Ada Lovelace" in shown.output
    assert json.loads(call("records", "letter.txt", "--json").output)["document"] == "letter.txt"


def test_one_document_shows_numbers_and_times_as_people_write_them(call: Call, answered: Path) -> None:
    call("correct", "letter.txt", "--set", "confidence=1")
    shown = call("records", "letter.txt").stdout
    changed_at = datetime.fromisoformat(json.loads(call("records", "letter.txt", "--json").stdout)["updated_at"])
    assert re.search(r"^confidence +1$", shown, re.MULTILINE)
    assert re.search(rf"^updated_at +{changed_at.astimezone():%Y-%m-%d %H:%M}$", shown, re.MULTILINE)


def test_a_document_that_does_not_exist_is_refused(call: Call, answered: Path) -> None:
    missing = call("records", "nowhere.txt")
    assert missing.exit_code == 2
    assert "no such document: nowhere.txt" in missing.output


def test_the_name_of_the_file_says_the_format(call: Call, answered: Path, tmp_path: Path) -> None:
    assert call("records", "--out", str(tmp_path / "r.csv")).exit_code == 0
    assert (tmp_path / "r.csv").read_text().startswith("document,path,state")
    unclear = call("records", "--out", str(tmp_path / "r.xyz"))
    assert unclear.exit_code == 2
    assert "add --format" in unclear.output
    unknown = " ".join(call("records", "--out", str(tmp_path / "r.xlsx")).output.split())
    assert "there is no format xlsx: use a name that ends in .csv" in unknown


def test_a_file_of_records_is_not_written_into_the_library(call: Call, answered: Path) -> None:
    refused = call("records", "--out", str(answered / "records.csv"))
    assert refused.exit_code == 2
    assert "would become documents" in refused.output
    assert not (answered / "records.csv").exists()


def test_a_wrong_condition_is_refused_with_the_nearest_field(call: Call, with_ledger: str) -> None:
    refused = call("records", "--where", "categori=invoice")
    assert refused.exit_code == 2
    assert "did you mean category?" in refused.output


def test_a_file_of_yours_among_the_notes_is_left_alone_and_named(call: Call, answered: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "letter.txt.md").write_text("mine")
    done = call("records", "--format", "md", "--out", str(notes))
    assert done.exit_code == 0
    assert f"1 note in {notes}: 1 written, 0 removed" in done.stderr
    assert (done.stdout, call("records", "--out", str(tmp_path / "r.csv")).stdout) == ("", "")
    assert "not replaced, because it is not ours: letter.txt.md" in done.output
    assert (notes / "letter.txt.md").read_text() == "mine"


def test_a_filtered_export_keeps_the_notes_of_other_documents(call: Call, answered: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    call("records", "--format", "md", "--out", str(notes))
    filtered = call("records", "--search", "landlord", "--format", "md", "--out", str(notes))
    assert f"2 notes in {notes}: 0 written, 0 removed, 1 kept that this export does not select" in filtered.output
    assert (notes / "minutes.md.md").exists()


def test_an_export_with_json_writes_the_file_and_prints_what_it_wrote(
    call: Call, answered: Path, tmp_path: Path
) -> None:
    file, notes = tmp_path / "r.csv", tmp_path / "notes"
    written = json.loads(call("records", "--json", "--out", str(file)).output)
    assert (written["file"], written["records"]) == (str(file), 2)
    assert len(file.read_text().splitlines()) >= 3
    (notes / "letter.txt.md").mkdir(parents=True)
    printed = json.loads(call("records", "--json", "--format", "md", "--out", str(notes)).output)
    assert printed == {
        "file": str(notes),
        "records": 2,
        "written": 1,
        "removed": 0,
        "kept": 0,
        "left_alone": ["letter.txt.md"],
    }


def test_json_in_another_format_is_refused(call: Call, with_ledger: str) -> None:
    refused = call("records", "--json", "--format", "csv")
    assert refused.exit_code == 2
    assert "leave out --format csv, or add --out" in refused.output


def test_notes_are_not_written_to_a_file(call: Call, answered: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.csv"
    file.touch()
    refused = call("records", "--format", "md", "--out", str(file))
    assert refused.exit_code == 2
    assert "is a file: notes need a folder" in refused.output


def test_a_dash_is_no_file_to_write(
    call: Call, with_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = call("records", "--format", "csv", "--out", "-")
    assert "to print the records, leave out --out" in refused.output
    assert not Path("-").exists()


def test_a_filter_beside_one_document_is_refused(call: Call) -> None:
    refused = call("records", "letter.txt", "--where", "category=letter", "--format", "csv")
    assert refused.exit_code == 2
    assert "leave out --where, --format, or DOCUMENT" in refused.output


def test_a_value_that_a_field_cannot_have_is_named_if_no_document_matches(call: Call, answered: Path) -> None:
    nothing = call("records", "--where", "category=minuts")
    assert nothing.exit_code == 0
    assert "category has no value 'minuts' (did you mean minutes?): its values are invoice, letter" in nothing.output
    assert call("records", "--where", "category=manual").output == "no document matches\n"
    wrong = ("records", "--where", "category=minuts")
    [hint] = json.loads(call(*wrong, "--json").output)["hints"]
    assert hint in nothing.output
    assert json.loads(call("records", "--where", "category=manual", "--json").output)["hints"] == []
    assert hint in call(*wrong, "--format", "jsonl").stderr
    assert hint in call(*wrong, "--out", "none.csv").stderr


def test_records_of_a_home_without_a_ledger_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no ledger in"):
        list(records.read(home=tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_a_markdown_file_is_refused_because_notes_are_a_folder(call: Call, scanned: Path, tmp_path: Path) -> None:
    refused = call("records", "--out", str(tmp_path / "all.md"))
    assert (refused.exit_code, "use --format md --out FOLDER" in refused.output) == (2, True)
    assert not (tmp_path / "all.md").exists()
