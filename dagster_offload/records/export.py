"""Write records to files. A file is written beside its place and renamed, so that no reader ever sees half of one."""

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from dagster_offload.errors import SettingsError
from dagster_offload.library.handles import open_folder, open_in, open_root, read_in, split
from dagster_offload.records import as_csv, as_html, as_jsonl, as_markdown, as_parquet
from dagster_offload.records.columns import Column
from dagster_offload.records.drafts import draft_of, is_cut, is_named, remove_leftovers

# The names of the notes in a folder that are ours. Only these are ever removed.
MANIFEST = ".dagster-offload.json"
LONGEST_NAME = 250  # bytes of a file's name
_NO_FOLDER = (errno.ENOTDIR, errno.ELOOP)  # the errors for a link, or a file, in the place of a folder

Records = Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Exported:
    """What an export did, in records. For a folder: how many notes were written because they changed, and removed.

    `kept` counts the notes of documents that the export did not select. `left_alone` are the paths below the folder at which a
    note was not written, because something that is not ours is there.
    """

    records: int
    written: int | None = None
    removed: int | None = None
    kept: int = 0
    left_alone: tuple[str, ...] = ()


def write_text(records: Records, columns: tuple[Column, ...], form: str, out: TextIO) -> int:
    """Write records in a text format (jsonl, csv or html) to an open file. Returns the number of records."""
    if form == "jsonl":
        return as_jsonl.write(records, out)
    writer = {"csv": as_csv.write, "html": as_html.write}[form]
    return writer(records, columns, out)


def write_file(records: Records, columns: tuple[Column, ...], form: str, file: Path) -> Exported:
    """Write records to one file. Raises `SettingsError` if it cannot be written; an older file then stays as it is."""
    if form != "parquet":
        with open_text(file) as out:
            return Exported(write_text(records, columns, form, out))
    with _draft_for(file) as draft:
        return Exported(as_parquet.write(records, columns, draft))


@contextlib.contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """A text file that replaces the one at this place at the end of the block. Raises `SettingsError` as `write_file` does."""
    with _draft_for(file) as draft, open(draft.fileno(), "w", encoding="utf-8", newline="", closefd=False) as out:
        yield out


@contextlib.contextmanager
def _draft_for(file: Path) -> Iterator[BinaryIO]:
    _refuse_special(file)
    remove_leftovers(file.parent, is_named(file.name))
    with _problems_of(file), open_root(file.parent) as folder, draft_of(folder, file.name) as draft:
        yield draft


def _refuse_special(file: Path) -> None:
    """Raise `SettingsError` for a device, a pipe or a socket, also behind a link: a file would take its place for all programs.

    What is in /dev itself is one of these, such as /dev/stdout, which may be a link to a file.
    """
    folder, mode = file.parent.resolve(), stat.S_IFREG
    with contextlib.suppress(OSError):  # it does not exist, or writing tells what is wrong with it
        mode = stat.S_IFMT(file.stat().st_mode)
    if mode not in (stat.S_IFREG, stat.S_IFDIR) or folder == Path("/dev") or folder.is_relative_to("/proc"):
        raise SettingsError(f"{file} is a device, a pipe or a socket, which a file would replace: choose another place")


def write_notes(
    records: Records, columns: tuple[Column, ...], folder: Path, library: Path | None, documents: Iterable[str] = ()
) -> Exported:
    """Write a Markdown note for each record into `folder`, and remove our notes of documents that are gone.

    `documents` are the keys of all documents if the records are a selection: notes of those that it leaves out are kept.
    A note that did not change is not touched. What is not ours is never replaced: neither listed, nor a note of the same
    document. Raises `SettingsError` for a folder that is the library, lies in it or contains it. A link in
    the folder is never followed: notes of a folder that is a link cannot be written, and none is removed behind it.
    """
    refuse_in_library(folder, library)
    refuse_above_library(folder, library)
    with _problems_of(folder):
        if folder.is_file():
            raise SettingsError(f"{folder} is a file: notes need a folder")
        folder.mkdir(parents=True, exist_ok=True)
    with _problems_of(folder), open_root(folder) as top:
        before = set(_manifest(folder, top))
        for place, _, _ in os.walk(folder):
            remove_leftovers(Path(place), _is_note)
        ours: dict[str, None] = {}
        left_alone: list[str] = []
        count = written = 0
        try:
            for record in records:
                name = note_name(record["document"])
                did = _write_if_changed(folder, top, name, as_markdown.note(record, columns), is_listed=name in before)
                if did is None:
                    left_alone.append(name)
                else:
                    written += did
                    ours[name] = None
                count += 1
            unselected = before - ours.keys()
            kept = {name for name in map(note_name, documents) if name in unselected}
        except BaseException:
            _list_or_withdraw(folder, top, before, ours)
            raise
        gone = unselected - kept
        for name in gone:
            _remove_note(top, name)
        _write_manifest(folder, top, [*ours, *sorted(kept)])
    return Exported(count, written, len(gone), len(kept), tuple(left_alone))


def _is_note(name: str) -> bool:
    """Whether a file, whose name may be cut, can be one of ours in a folder of notes."""
    return name == MANIFEST or name.endswith(".md") or is_cut(name)


def note_name(document: str) -> str:
    """The path of a document's note below the folder: `letters/rent.pdf.md`."""
    *folders, name = document.split("/")
    if len(f"{name}.md".encode()) > LONGEST_NAME:
        name = _with_digest(name)
    return "/".join([*map(_folder_name, folders), f"{name}.md"])


def _folder_name(name: str) -> str:
    """The name of a folder of notes. One that could be a file of ours is changed: `rent.md` is the note of `rent`, too."""
    return _with_digest(name) if name.casefold().endswith(".md") or name == MANIFEST else name


def _with_digest(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: LONGEST_NAME - 16].decode(errors="ignore") + f"-{digest}"


def _manifest(folder: Path, top: int) -> list[str]:
    try:
        with open_in(top, MANIFEST) as file:
            return [name for name in json.loads(file.readall())["notes"] if name.endswith(".md")]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(
            f"{folder / MANIFEST} is damaged ({error}): remove it, and old notes that you do not want"
        ) from None


def _write_manifest(folder: Path, top: int, notes: Iterable[str]) -> None:
    with _problems_of(folder / MANIFEST), draft_of(top, MANIFEST) as draft:
        draft.write(json.dumps({"notes": list(notes)}, ensure_ascii=False).encode())


def _list_or_withdraw(folder: Path, top: int, before: Collection[str], ours: Iterable[str]) -> None:
    """List the notes of an export that broke off, so that a later one removes those whose record is gone by then.

    If the list cannot be written, for example because the disk is full, removes the new notes.
    """
    new = [name for name in ours if name not in before]
    try:
        _write_manifest(folder, top, [*before, *new])
    except SettingsError:
        with contextlib.suppress(OSError):  # on a disk that is read-only now
            for name in new:
                _remove_note(top, name)


def _write_if_changed(folder: Path, top: int, name: str, text: str, *, is_listed: bool) -> bool | None:
    """Write a note. False: it is there already. None: something that is not ours is in its place, and stays."""
    with _problems_of(folder / name), _folder_of_note(top, name) as (place, last):
        content = text.encode()
        found = None
        with contextlib.suppress(OSError):  # missing, or a link or something else in its place
            found = read_in(place, last, len(content) + 1)
        if found == content:
            return False
        if not is_listed and not _is_note_of_ours(found, content) and _exists(place, last):
            return None
        with draft_of(place, last) as draft:
            draft.write(content)
    return True


def _is_note_of_ours(found: bytes | None, content: bytes) -> bool:
    """Whether a file that is not listed is an older note of the same document: its list was lost, or its export was killed."""
    beginning = b"".join(content.splitlines(keepends=True)[:2])  # the line that names the document
    return found is not None and found.startswith(beginning)


def _exists(place: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _folder_of_note(top: int, name: str) -> Iterator[tuple[int, str]]:
    """Open the folder of a note, which is created if it is missing. Yields it, and the name of the note in it."""
    folder, last = split(name)
    parts = folder.split("/") if folder else []
    for depth in range(len(parts)):
        with open_folder(top, "/".join(parts[:depth])) as above, contextlib.suppress(FileExistsError):
            os.mkdir(parts[depth], dir_fd=above)
    with open_folder(top, folder) as opened:
        yield opened, last


def _remove_note(top: int, name: str) -> None:
    """Remove a note, and the folders that are empty then. One that is gone, or behind a link, is no longer ours."""
    try:
        folder, last = split(name)
        with open_folder(top, folder) as place:
            os.unlink(last, dir_fd=place)
    except OSError as error:
        if error.errno not in (errno.ENOENT, *_NO_FOLDER):
            raise
    _remove_empty_folders(top, name.rpartition("/")[0])


def _remove_empty_folders(top: int, folder: str) -> None:
    while folder:
        above, _, last = folder.rpartition("/")
        try:
            with open_folder(top, above) as place:
                os.rmdir(last, dir_fd=place)
        except OSError:  # it is not empty, or it is a link
            return
        folder = above


def refuse_in_library(place: Path, library: Path | None) -> None:
    """Raise `SettingsError` for a file or folder in the library, or for the library itself."""
    if library is not None and place.resolve().is_relative_to(library.resolve()):
        raise SettingsError(
            f"{place} is in the library {library}: what is written there would become documents. Choose another place"
        )


def refuse_above_library(folder: Path, library: Path | None) -> None:
    """Raise `SettingsError` for a folder of notes that contains the library: a note may then lie in the library."""
    if library is not None and library.resolve().is_relative_to(folder.resolve()):
        raise SettingsError(
            f"{folder} contains the library {library}: notes written into the library would become documents. "
            "Choose a folder beside it"
        )


@contextlib.contextmanager
def _problems_of(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "a part of its path is a link or not a folder" if error.errno in _NO_FOLDER else error.strerror
        raise SettingsError(f"{place} cannot be written: {reason}; choose another place") from error
