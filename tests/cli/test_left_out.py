"""What a scan leaves out is listed and explained, with what would change it."""

import json
import os
from pathlib import Path

import pytest

from tests.support.cli import Call
from tests.support.library import write


@pytest.fixture
def mixed(library: Path) -> Path:
    """A library with two documents and files that are left out."""
    for name in ("all.zip", "node_modules/deep/a.txt", "archive/old.txt"):
        write(library, name)
    write(library, ".offloadignore", b"archive/\n")
    return library


@pytest.mark.rule("library-8")
def test_scan_skipped_lists_everything_that_is_left_out_and_needs_no_ledger(call: Call, mixed: Path) -> None:
    shown = call("scan", "--skipped")
    assert shown.exit_code == 0
    for words in ("all.zip", "type .zip is not read", "unpack it", "node_modules/", "archive/ in .offloadignore"):
        assert words in " ".join(shown.stdout.split())
    found = json.loads(call("scan", "--skipped", "--json").stdout)
    assert found["counts"] == {"hidden": 1, "ignored": 1, "tools": 1, "type": 1}
    assert {row["name"]: row["kind"] for row in found["left_out"]} == {
        ".offloadignore": "hidden",
        "all.zip": "type",
        "archive/": "ignored",
        "node_modules/": "tools",
    }
    assert all(row["reason"] and row["advice"] for row in found["left_out"])
    assert not (Path(os.environ["OFFLOAD_HOME"])).exists()


@pytest.mark.rule("library-3")
def test_scan_skipped_lists_names_that_cannot_be_documents(call: Call, library: Path) -> None:
    (library / "two\nlines.txt").write_text("A letter.")
    Path(os.fsdecode(os.fsencode(library) + b"/caf\xe9.txt")).write_text("A letter.")
    found = json.loads(call("scan", "--skipped", "--json").stdout)
    assert found["counts"] == {"name": 2}
    assert {row["name"]: (row["reason"], row["advice"]) for row in found["left_out"]} == {
        "caf\\xe9.txt": ("it is not UTF-8", "rename it"),
        "two\\nlines.txt": ("it contains a control character", "rename it"),
    }


def test_scan_skipped_of_a_library_of_documents_says_so(call: Call, library: Path) -> None:
    assert call("scan", "--skipped").stdout == "nothing is left out\n"


@pytest.mark.rule("library-8")
def test_explain_says_why_a_file_is_no_document_and_what_would_change_that(
    call: Call, mixed: Path, scanned: Path
) -> None:
    shown = call("explain", "all.zip")
    assert shown.exit_code == 0
    assert shown.stdout.startswith(
        "all.zip: left out: type .zip is not read. To include it: unpack it into the library"
    )
    inside = call("explain", str(mixed / "node_modules" / "deep" / "a.txt"))
    assert "left out: it is a folder of a development tool" in inside.stdout
    found = json.loads(call("explain", "archive/old.txt", "--json").stdout)
    assert found["left_out"]["reason"] == "the pattern archive/ in .offloadignore matches it"
    assert call("explain", "missing.zip").exit_code != 0


def test_explain_finds_a_file_that_is_not_downloaded_by_the_name_of_its_placeholder(
    call: Call, mixed: Path, scanned: Path
) -> None:
    (mixed / ".rent.pdf.icloud").touch()
    for name in (".rent.pdf.icloud", "rent.pdf"):
        assert "rent.pdf: left out: it is in iCloud and not downloaded" in call("explain", name).stdout


@pytest.mark.rule("library-8")
def test_explain_of_a_document_that_a_new_rule_leaves_out_shows_its_history_and_the_rule(
    call: Call, scanned: Path
) -> None:
    from dagster_offload.engine.scan import scan
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    os.environ["OFFLOAD_IGNORE"] = "letter.*"
    settings = load_settings()
    with open_ledger(settings) as ledger:
        scan(settings, ledger)
    shown = " ".join(call("explain", "letter.txt").stdout.split())
    assert "left out: the pattern letter.* in OFFLOAD_IGNORE matches it" in shown
    assert "To include it: change OFFLOAD_IGNORE" in shown
    assert "the file is no longer a document; its results are kept" in shown
    assert "new content" in shown


@pytest.mark.parametrize("name", ["OFFLOAD_IGNORE", "OFFLOAD_INCLUDE"])
def test_a_setting_that_is_no_pattern_is_refused_and_named(call: Call, library: Path, name: str) -> None:
    os.environ[name] = "letters/,!"
    refused = call("scan", "--skipped")
    assert refused.exit_code == 2
    assert f"{name}: ! is not a gitignore pattern" in refused.stderr
