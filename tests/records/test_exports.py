"""Records written as CSV, JSON Lines, Parquet, HTML and notes, and what a broken export leaves behind."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from ruamel.yaml import YAML

from dagster_offload.errors import SettingsError
from dagster_offload.records import Query, export
from dagster_offload.records.columns import columns
from tests.support.engine import Engine
from tests.support.records import PAYMENT, found, records


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


def test_answers_of_another_form_than_the_stage_has_now_are_empty_cells(own: Engine, tmp_path: Path) -> None:
    changed = {"amount": "date", "due": "number", "select": "boolean", "parties": "datetime"}
    own.use_stages(payment=PAYMENT | {"answer": changed})
    with written(own, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        assert {row[f"payment.{name}"] for row in csv.DictReader(file) for name in changed} == {""}
    rows = pyarrow.parquet.read_table(written(own, "parquet", tmp_path / "r.parquet")).to_pylist()
    assert {row[f"payment.{name}"] for row in rows for name in changed} == {None}


def test_every_line_of_jsonl_is_a_record(filled: Engine, tmp_path: Path) -> None:
    lines = written(filled, "jsonl", tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == list(records(filled))


def test_a_cell_that_a_spreadsheet_would_run_is_text_in_csv(own: Engine, tmp_path: Path) -> None:
    own.sql("update results set value = value || '{\"title\": \"=cmd|calc\"}' where stage = 'summarize'")
    with written(own, "csv", tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        titles = {row["title"] for row in csv.DictReader(file)}
    assert titles == {"'=cmd|calc", ""}


def test_the_html_page_runs_and_loads_nothing_of_a_document(own: Engine, tmp_path: Path) -> None:
    own.sql(
        "update results set value = value || '{\"title\": \"<script>alert(1)</script>\"}' where stage = 'summarize'"
    )
    page = written(own, "html", tmp_path / "r.html").read_text(encoding="utf-8")
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


def test_a_second_export_touches_only_what_changed_and_removes_what_is_gone(own: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "notes"
    assert notes(own, folder) == export.Exported(4, 4, 0)
    mine = folder / "b/mine.md"
    mine.write_text("my own note")
    before = os.stat(folder / "a.txt.md").st_mtime_ns
    own.sql(
        "update results set value = value || '{\"title\": \"New\"}' where stage = 'summarize' and first_document = 'c.txt'"
    )
    own.sql("update documents set is_present = false where key = 'b/청구서.txt'")
    assert notes(own, folder) == export.Exported(3, 1, 1)
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
    assert os.listdir(tmp_path) == ["r.csv"]


def test_a_place_that_cannot_be_written_is_named(filled: Engine, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be written"):
        written(filled, "csv", tmp_path / "nowhere" / "r.csv")


def test_a_name_too_long_for_a_note_is_shortened_and_stays_unique() -> None:
    one, two = (export.note_name(f"a/{'가' * 84}{end}.pdf") for end in "12")
    assert one != two
    assert len(one.rpartition("/")[2].encode()) <= 255
