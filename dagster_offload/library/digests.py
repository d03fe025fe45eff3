"""Find the file for a key, and compute the SHA-256 of a file that does not change meanwhile."""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from dagster_offload.errors import ChangedWhileRead
from dagster_offload.library.files import FileStat, has_one_spelling, seen_as
from dagster_offload.library.handles import open_file, open_folder, open_root, resolve

_PART_BYTES = 1024 * 1024


def digest(file: FileStat) -> str:
    """Return the SHA-256 (hex) of the file's bytes. Raises `ChangedWhileRead`, or `OSError` if it cannot be read."""
    descriptor = open_file(file.library, file.name)
    with open(descriptor, "rb", buffering=0) as opened:
        _refuse_change(file, os.fstat(descriptor))
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        _refuse_change(file, os.fstat(descriptor))
    return sha256


def md5_of_unchanged(library: Path, key: str, sha256: str) -> str | None:
    """Return the MD5 (hex) of the document's file, or None if its bytes no longer have this SHA-256 (hex)."""
    path = locate(library, key)
    if path is None:
        return None
    md5, current = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with open(open_file(library, path.relative_to(library).as_posix()), "rb", buffering=0) as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            left = status.st_size  # a file that grows is not read for ever
            while left > 0 and (part := opened.read(min(left, _PART_BYTES))):
                left -= len(part)
                md5.update(part)
                current.update(part)
    except OSError:
        return None
    return md5.hexdigest() if current.hexdigest() == sha256 else None


def locate(library: Path, key: str) -> Path | None:
    """Return the file for a key from `walk`, or None. Also finds names that are not stored in normal form.

    If several files share a key, returns the one that the walk chose. Open the path with `handles` only: the path may
    lead out of the library if a link was created meanwhile.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key:
        return None
    try:
        with open_root(library) as root:
            if _is_file(root, library, key):
                return library / key
            if has_one_spelling(key):
                return None
            names = [name for name in _matching(root, parts) if _is_file(root, library, name)]
    except OSError:
        return None
    return library / min(names, key=os.fsencode) if names else None


def _is_file(root: int, library: Path, name: str) -> bool:
    try:
        return stat.S_ISREG(resolve(root, library, name)[1].st_mode)
    except OSError:
        return False


def _matching(root: int, parts: list[str]) -> list[str]:
    """Return the names whose path normalizes to `parts`. Skips folders that cannot be listed."""
    names = [""]
    for part in parts:
        names = [name for folder in names for name in _entries_named(root, folder, part)]
    return names


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
        raise ChangedWhileRead(f"{file.key} changed while it was read; the next scan reads it again")
