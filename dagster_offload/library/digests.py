"""Find the file of a key again, and take the SHA-256 of a file's bytes without mixing two contents."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from dagster_offload.errors import ChangedWhileRead
from dagster_offload.library.files import FileStat, seen_as
from dagster_offload.library.handles import open_file, open_folder, open_library, resolve


def digest(file: FileStat) -> str:
    """SHA-256 (hex) of the file's bytes. Raises `ChangedWhileRead`, or `OSError` where it cannot be read."""
    descriptor = open_file(file.library, file.name)
    with open(descriptor, "rb", buffering=0) as opened:
        _refuse_change(file, os.fstat(descriptor))
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        _refuse_change(file, os.fstat(descriptor))
    return found


def locate(library: Path, key: str) -> Path | None:
    """The file of a key that a walk gave out, or None. Finds names that are not stored in their normal form.

    Where several files share a key it finds the one that the walk took. The path is for `handles` to open and for
    people to read: opened by itself, it could lead out of the library by then.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key:
        return None
    try:
        with open_library(library) as root:
            if _is_file(root, library, key):
                return library / key
            if key.isascii():
                return None
            found = [name for name in _matching(root, parts) if _is_file(root, library, name)]
    except OSError:
        return None
    return library / min(found, key=os.fsencode) if found else None


def _is_file(root: int, library: Path, name: str) -> bool:
    try:
        return stat.S_ISREG(resolve(root, library, name)[1].st_mode)
    except OSError:
        return False


def _matching(root: int, parts: list[str]) -> list[str]:
    """The names whose path normalises to `parts`; folders that cannot be listed have none for us."""
    found = [""]
    for part in parts:
        found = [name for folder in found for name in _entries_named(root, folder, part)]
    return found


def _entries_named(root: int, folder: str, part: str) -> Iterator[str]:
    try:
        with open_folder(root, folder) as handle:
            names = os.listdir(handle)
    except OSError:
        return
    for name in names:
        if unicodedata.normalize("NFC", name) == part:
            yield f"{folder}/{name}" if folder else name


def _refuse_change(file: FileStat, status: os.stat_result) -> None:
    if seen_as(file.key, status) != file.seen or not stat.S_ISREG(status.st_mode):
        raise ChangedWhileRead(f"{file.key} changed while it was read; the next scan takes it")
