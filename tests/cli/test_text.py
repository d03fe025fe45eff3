"""`dagster-offload text`: the text of files, without any setup."""

import json
import os
from pathlib import Path

import pytest

from dagster_offload.ledger.core import opening
from tests.cli.test_help import unwanted_imports
from tests.support.cli import Call

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"


def test_each_file_is_one_json_line_in_the_order_given(call: Call, tmp_path: Path) -> None:
    blank = tmp_path / "blank.html"
    blank.write_bytes(b"<html><body></body></html>")
    files = [FORMATS / "report.pdf", FORMATS / "protected.pdf", tmp_path / "missing.txt", blank]
    result = call("text", "--json", *map(str, files))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(file) for file in files]
    assert [row["outcome"] for row in rows] == ["ok", "password_protected", "unreadable", "no_text"]
    assert [row["is_read"] for row in rows] == [True, False, False, True]
    assert (rows[0]["pages"], rows[0]["format"]) == (1, "application/pdf")
    assert rows[0]["text"]
    assert all(row["text"] == "" for row in rows[1:])
    assert "password" in rows[1]["reason"]
    assert rows[2]["reason"] == "No such file or directory"
    assert all(row["seconds"] >= 0 for row in rows)


def test_a_name_that_is_not_utf8_gives_valid_json(call: Call, tmp_path: Path) -> None:
    note = tmp_path / os.fsdecode(b"caf\xe9.txt")
    try:
        note.write_text("coffee")
    except OSError:
        pytest.skip("this file system allows only UTF-8 names")
    line = call("text", "--json", str(note)).stdout_bytes.decode("utf-8")
    assert json.loads(line)["path"] == str(note)


def test_a_folder_or_a_pipe_does_not_stop_the_files_after_it(call: Call, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "note.txt").write_text("words")
    result = call("text", "--json", str(tmp_path), str(tmp_path / "pipe.txt"), str(tmp_path / "note.txt"))
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["outcome"] for row in rows] == ["unreadable", "unreadable", "ok"]
    assert (rows[0]["reason"], rows[1]["reason"][:18]) == ("Is a directory", "not a regular file")


def test_text_goes_to_standard_output_and_a_line_about_the_file_to_standard_error(call: Call, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("회의는 9시", encoding="utf-8")
    result = call("text", str(note))
    assert result.exit_code == 0
    assert result.stdout == "회의는 9시\n"
    assert result.stderr.startswith(f"{note}: ok, 6 characters, ")


def test_an_unreadable_file_and_wrong_usage_have_different_exit_codes(call: Call, tmp_path: Path) -> None:
    (tmp_path / "nothing.txt").write_bytes(b"")
    assert call("text", str(tmp_path / "nothing.txt")).exit_code == 0
    assert call("text", str(tmp_path / "nothing.txt"), str(FORMATS / "protected.pdf")).exit_code == 65
    assert call("text").exit_code == 2


def test_it_opens_no_ledger_and_imports_neither_dagster_nor_a_database(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "open_ledger", None)
    assert call("text", str(FORMATS / "table.csv")).exit_code == 0
    arguments = ["text", str(FORMATS / "table.csv")]
    assert unwanted_imports(arguments, ["dagster", "psycopg", "httpx", "aiohttp", "rich", "office_oxide"]) == []
