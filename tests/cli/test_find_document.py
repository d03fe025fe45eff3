"""A document is found by a part of its name, its folder, or in another case."""

import json
from pathlib import Path

import pytest

from dagster_offload.cli.find_document import LISTED, match
from tests.support.cli import Call

KEYS = ["letters/2024/Landlord.pdf", "letters/2024/bank.pdf", "letters/2025/Bank.pdf", "minutes.md", "공문/서울시.hwp"]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("LETTERS/2024/landlord.PDF", ["letters/2024/Landlord.pdf"]),
        ("landlord.pdf", ["letters/2024/Landlord.pdf"]),
        ("landlord", ["letters/2024/Landlord.pdf"]),
        ("letters/2025/", ["letters/2025/Bank.pdf"]),
        ("bank", ["letters/2024/bank.pdf", "letters/2025/Bank.pdf"]),
        ("inut", ["minutes.md"]),
        ("서울", ["공문/서울시.hwp"]),
        ("", []),
    ],
)
def test_a_part_of_a_name_matches_whatever_its_case(typed: str, found: list[str]) -> None:
    assert match(typed, KEYS).found == found


def test_a_better_match_hides_the_worse_ones() -> None:
    assert match("bank.pdf", ["bank.pdf", "bank.pdf.txt", "old/bank.pdf"]).found == ["bank.pdf"]
    assert match("bank", ["bank.pdf", "banknotes.pdf"]).found == ["bank.pdf"]


@pytest.mark.parametrize("typed", ["tabel_04", "tabel_04.html", "doclign--table_04", "tabel"])
def test_a_mistyped_part_of_a_name_gets_the_nearest_ones(typed: str) -> None:
    assert match(typed, ["tenant.txt", "docling--table_04.html"]).nearest == ["docling--table_04.html"]


def test_a_mistyped_name_gets_the_nearest_ones() -> None:
    assert match("landlrod.pdf", KEYS).nearest[0] == "letters/2024/Landlord.pdf"
    assert match("landlrod", KEYS).nearest == ["letters/2024/Landlord.pdf"]
    assert match("wholly different", KEYS).nearest == []


@pytest.mark.parametrize("command", [["explain"], ["records"], ["retry"]])
def test_commands_take_the_only_match_and_name_it(call: Call, scanned: Path, command: list[str]) -> None:
    result = call(*command, "MINUTES")
    assert result.exit_code == 0
    assert "document: minutes.md" in result.stderr
    assert "document: minutes.md" not in call(*command, "minutes.md").stderr


def test_several_matches_are_listed_and_none_is_taken(call: Call, scanned: Path) -> None:
    result = call("explain", "t", "--json")
    assert result.exit_code == 2
    assert "2 documents match 't': letter.txt, minutes.md" in json.loads(result.stdout)["error"]


def test_a_document_that_does_not_exist_gets_a_hint(call: Call, scanned: Path) -> None:
    result = call("records", "lettre.txt")
    assert result.exit_code == 2
    assert "no such document: lettre.txt. Did you mean letter.txt?" in result.stderr


@pytest.mark.parametrize("command", [["explain"], ["records"], ["retry"]])
@pytest.mark.parametrize("typed", ["", " "])
def test_an_empty_name_is_no_document(call: Call, scanned: Path, command: list[str], typed: str) -> None:
    result = call(*command, typed)
    assert result.exit_code == 2
    assert "the name of the document is empty" in result.stderr


def test_text_finds_a_document_of_the_library(call: Call, library: Path) -> None:
    result = call("text", "minutes")
    assert "buy a second printer" in result.stdout
    assert call("text", "nothing.here").exit_code == 65


def test_at_most_ten_matches_are_listed() -> None:
    assert len(match("a", [f"{n}/a.txt" for n in range(LISTED + 5)]).found) == LISTED + 5
