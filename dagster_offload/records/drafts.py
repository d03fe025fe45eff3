"""Files that are written beside their place and renamed. What a killed export left of one is removed by the next.

The process that writes a draft holds a lock on it, so a draft without a lock is a leftover.
"""

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".new"
_LEFT = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.new", re.DOTALL)
_KEPT_BYTES = 100  # of the name of the file: a name has a limit in bytes, and that of the draft is longer


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A file beside `file` that takes its place at the end of the block, and disappears if the block raises."""
    descriptor, draft = _locked_draft(file)
    try:
        yield draft
        os.chmod(draft, 0o600)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
        os.close(descriptor)


def _locked_draft(file: Path) -> tuple[int, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f".{_cut(file.name)}.", suffix=_SUFFIX, dir=file.parent)
        with contextlib.suppress(OSError):  # a file system without locks: there no leftover is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)  # another export took it for a leftover before it was locked


def remove_leftovers(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove drafts in `folder` that no process writes, of files whose name, which may be cut, `is_ours` accepts."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # a folder that cannot be read is not ours
        found = [entry for entry in entries if (left := _LEFT.fullmatch(entry.name)) is not None and is_ours(left[1])]
    for entry in found:
        with contextlib.suppress(OSError):  # of another user, in use, or not there any more
            if entry.is_file(follow_symlinks=False):
                _remove_unlocked(entry.path)


def _cut(name: str) -> str:
    return os.fsencode(name)[:_KEPT_BYTES].decode(errors="ignore")


def is_cut(name: str) -> bool:
    """Whether the name of a draft's file may have been longer."""
    return len(os.fsencode(name)) > _KEPT_BYTES - 4  # a character of up to four bytes may have been in the way


def is_named(name: str) -> Callable[[str], bool]:
    """Whether a draft is one of the file `name`."""
    return lambda cut: cut == _cut(name)


def _remove_unlocked(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(descriptor)
