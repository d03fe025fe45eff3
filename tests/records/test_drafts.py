"""What a killed export leaves beside a file is removed by the next export to that place, and nothing else is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagster_offload.library.handles import open_root
from dagster_offload.records import export
from dagster_offload.records.columns import columns
from dagster_offload.records.drafts import draft_of, is_named, remove_leftovers
from dagster_offload.settings import load_settings

DOCUMENT = columns(load_settings())[:1]
KILLED = """
import os, signal, sys
from pathlib import Path
from dagster_offload.records import export
from dagster_offload.records.columns import columns
from dagster_offload.settings import load_settings

def records():
    yield {"document": "letters/a.txt", "state": "done"}
    os.kill(os.getpid(), signal.SIGKILL)

export.write_file(records(), columns(load_settings())[:1], "csv", Path(sys.argv[1]))
"""


def drafts_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.new"))


def test_the_draft_of_a_killed_export_is_removed_by_the_next(tmp_path: Path) -> None:
    file = tmp_path / "records.csv"
    subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
    assert len(drafts_in(tmp_path)) == 1
    assert not file.exists()
    export.write_file([{"document": "a.txt", "state": "done"}], DOCUMENT, "csv", file)
    assert os.listdir(tmp_path) == ["records.csv"]


def test_the_draft_of_a_killed_note_is_removed_by_the_next_export_of_notes(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    for name in (".a.txt.md.abcd1234.new", f".{'x' * 100}.abcd1234.new", f".{'가' * 33}.abcd1234.new"):
        (tmp_path / "letters" / name).touch()
    (tmp_path / "..dagster-offload.json.abcd1234.new").write_text("{")
    export.write_notes([{"document": "letters/b.txt", "state": "done"}], DOCUMENT, tmp_path, None)
    assert drafts_in(tmp_path) == []


def test_a_draft_that_is_written_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "records.csv"
    with open_root(tmp_path) as folder, draft_of(folder, file.name) as draft:
        draft.write(b"first")
        [name] = drafts_in(tmp_path)
        export.write_file([{"document": "a.txt", "state": "done"}], DOCUMENT, "csv", file)
        assert drafts_in(tmp_path) == [name]
    assert file.read_text() == "first"
    assert drafts_in(tmp_path) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: (folder / ".other.csv.abcd1234.new").touch(),
        lambda folder: (folder / ".records.csv.new").touch(),
        lambda folder: (folder / "records.csv.abcd1234.new").touch(),
        lambda folder: (folder / ".records.csv.abcd1234.new").mkdir(),
        lambda folder: (folder / ".records.csv.abcd1234.new").symlink_to(folder),
        lambda folder: os.mkfifo(folder / ".records.csv.abcd1234.new"),
    ],
)
def test_what_is_no_draft_of_the_file_is_left_alone(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path)
    remove_leftovers(tmp_path, is_named("records.csv"))
    assert len(os.listdir(tmp_path)) == 1


def test_a_draft_that_was_taken_for_a_leftover_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    made: list[Path] = []
    lock = fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        if not made:
            [path] = tmp_path.iterdir()
            path.unlink()
            made.append(path)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with open_root(tmp_path) as folder, draft_of(folder, "records.csv") as draft:
        draft.write(b"whole")
    assert made
    assert (tmp_path / "records.csv").read_text() == "whole"


def test_notes_with_the_longest_names_are_written(tmp_path: Path) -> None:
    documents = [f"a/{'가' * 82}.md", f"a/{'가' * 84}1.pdf", f"a/{'x' * 240}.txt"]
    records = [{"document": document, "state": "done"} for document in documents]
    assert export.write_notes(records, DOCUMENT, tmp_path, None) == export.Exported(3, 3, 0)
    assert len(list((tmp_path / "a").iterdir())) == 3
