"""Write records to files. A file is written beside its place and renamed, so that no reader ever sees half of one."""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dagster_offload.errors import SettingsError
from dagster_offload.records import as_csv, as_html, as_jsonl, as_markdown, as_parquet
from dagster_offload.records.columns import Column
from dagster_offload.records.drafts import is_cut, is_named, remove_leftovers, replacing

FORMATS = ("jsonl", "csv", "parquet", "html", "md")
# The names of the notes in a folder that are ours. Only these are ever removed.
MANIFEST = ".dagster-offload.json"
LONGEST_NAME = 250  # bytes of a file's name

Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Exported:
    """What an export did, in records. For a folder: how many notes were written because they changed, and removed."""

    records: int
    written: int | None = None
    removed: int | None = None


def write_text(records: Records, columns: tuple[Column, ...], form: str, out: TextIO) -> int:
    """Write records in a text format (jsonl, csv or html) to an open file. Returns the number of records."""
    if form == "jsonl":
        return as_jsonl.write(records, out)
    writer = {"csv": as_csv.write, "html": as_html.write}[form]
    return writer(records, columns, out)


def write_file(records: Records, columns: tuple[Column, ...], form: str, file: Path) -> Exported:
    """Write records to one file. Raises `SettingsError` if it cannot be written; an older file then stays as it is."""
    remove_leftovers(file.parent, is_named(file.name))
    with _replacing(file) as beside:
        if form == "parquet":
            return Exported(as_parquet.write(records, columns, beside))
        with beside.open("w", encoding="utf-8", newline="") as out:
            return Exported(write_text(records, columns, form, out))


def write_notes(records: Records, columns: tuple[Column, ...], folder: Path, library: Path | None) -> Exported:
    """Write a Markdown note for each record into `folder`, and remove our notes of records that are not among them.

    A note that did not change is not touched. Raises `SettingsError` for a folder that is the library or lies in it.
    """
    refuse_in_library(folder, library)
    with _problems_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
        before = set(_manifest(folder))
        for place, _, _ in os.walk(folder):
            remove_leftovers(Path(place), _is_note)
        ours: dict[str, None] = {}
        count = written = 0
        try:
            for record in records:
                name = note_name(record["document"])
                written += _write_if_changed(folder / name, as_markdown.note(record, columns))
                ours[name] = None
                count += 1
        except BaseException:
            _list_or_withdraw(folder, before, ours)
            raise
        gone = before - ours.keys()
        for name in gone:
            (folder / name).unlink(missing_ok=True)
            _remove_empty_folders((folder / name).parent, folder)
        _write_manifest(folder, ours)
    return Exported(count, written, len(gone))


def _is_note(name: str) -> bool:
    """Whether a file, whose name may be cut, can be one of ours in a folder of notes."""
    return name == MANIFEST or name.endswith(".md") or is_cut(name)


def note_name(document: str) -> str:
    """The path of a document's note below the folder: `letters/rent.pdf.md`."""
    parent, _, name = document.rpartition("/")
    if len(f"{name}.md".encode()) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        name = name.encode()[: LONGEST_NAME - 16].decode(errors="ignore") + f"-{digest}"
    return f"{parent}/{name}.md" if parent else f"{name}.md"


def _manifest(folder: Path) -> list[str]:
    try:
        names = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["notes"]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError) as error:
        raise SettingsError(
            f"{folder / MANIFEST} is damaged ({error}): remove it, and old notes that you do not want"
        ) from None
    # A manifest that another program wrote must not lead out of the folder.
    return [name for name in names if not os.path.isabs(name) and ".." not in name.split("/")]


def _write_manifest(folder: Path, notes: Iterable[str]) -> None:
    with _replacing(folder / MANIFEST) as beside:
        beside.write_text(json.dumps({"notes": list(notes)}, ensure_ascii=False), encoding="utf-8")


def _list_or_withdraw(folder: Path, before: Collection[str], ours: Iterable[str]) -> None:
    """List the notes of an export that broke off, so that a later one removes those whose record is gone by then.

    If the list cannot be written, for example because the disk is full, removes the new notes.
    """
    new = [name for name in ours if name not in before]
    try:
        _write_manifest(folder, [*before, *new])
    except SettingsError:
        with contextlib.suppress(OSError):  # on a disk that is read-only now
            for name in new:
                (folder / name).unlink(missing_ok=True)
                _remove_empty_folders((folder / name).parent, folder)


def _write_if_changed(file: Path, text: str) -> bool:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if file.read_text(encoding="utf-8") == text:
            return False
    file.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(file) as beside:
        beside.write_text(text, encoding="utf-8", newline="")
    return True


def _remove_empty_folders(folder: Path, top: Path) -> None:
    while folder != top and folder.is_relative_to(top):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def refuse_in_library(place: Path, library: Path | None) -> None:
    """Raise `SettingsError` for a file or folder in the library, or for the library itself."""
    if library is not None and place.resolve().is_relative_to(library.resolve()):
        raise SettingsError(
            f"{place} is in the library {library}: what is written there would become documents. Choose another place"
        )


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    with _problems_of(file), replacing(file) as beside:
        yield beside


@contextlib.contextmanager
def _problems_of(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingsError(f"{place} cannot be written: {error.strerror}; choose another place with --out") from error
