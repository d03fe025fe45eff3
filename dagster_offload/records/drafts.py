"""Files that are written beside their place and renamed. What a killed export left of one is removed by the next.

The process that writes a draft holds a lock on it, so a draft without a lock is a leftover.
"""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dagster_offload.host.leftovers import locked_leftover

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SUFFIX = ".new"
_LEFT = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.new", re.DOTALL)
_KEPT_BYTES = 100  # of the name of the file: a name has a limit in bytes, and that of the draft is longer


@contextmanager
def draft_of(folder: int, name: str) -> Iterator[BinaryIO]:
    """A file that takes the place of `name` in an open folder at the end of the block, and disappears if the block raises.

    It is written by its descriptor only: a person who may write to the folder cannot redirect it by a link.
    """
    draft_name, draft = _locked_draft(folder, name)
    with draft:
        try:
            yield draft
            draft.flush()
            os.replace(draft_name, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft_name, dir_fd=folder)
            raise


def _locked_draft(folder: int, name: str) -> tuple[str, BinaryIO]:
    while True:
        draft_name = f".{_cut(name)}.{secrets.token_hex(4)}{_SUFFIX}"
        try:
            descriptor = os.open(draft_name, _NEW, 0o600, dir_fd=folder)
        except FileExistsError:
            continue
        draft = os.fdopen(descriptor, "wb")
        with contextlib.suppress(OSError):  # a file system without locks: there no leftover is removed either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return draft_name, draft
        draft.close()  # another export took it for a leftover before it was locked


def remove_leftovers(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Remove drafts in `folder` that no process writes, of files whose name, which may be cut, `is_ours` accepts."""
    found = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # a folder that cannot be read is not ours
        found = [entry for entry in entries if (left := _LEFT.fullmatch(entry.name)) is not None and is_ours(left[1])]
    for entry in found:
        with contextlib.suppress(OSError):  # of another user, in use, or already removed
            if entry.is_file(follow_symlinks=False):
                with locked_leftover(entry.path, os.O_RDWR | os.O_NONBLOCK):
                    os.unlink(entry.path)


def _cut(name: str) -> str:
    return os.fsencode(name)[:_KEPT_BYTES].decode(errors="ignore")


def is_cut(name: str) -> bool:
    """Whether the name of a draft's file may have been longer."""
    return len(os.fsencode(name)) > _KEPT_BYTES - 4  # a character of up to four bytes may have been in the way


def is_named(name: str) -> Callable[[str], bool]:
    """Whether a draft is one of the file `name`."""
    return lambda cut: cut == _cut(name)
