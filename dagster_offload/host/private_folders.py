"""New folders below a shared one. The process that made a folder holds a lock on it; one without was left by a killed process."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from dagster_offload.host.leftovers import locked_leftover

PREFIX = "offload-extractor-"


class PrivateFolder:
    """A new folder with mode 0700 in `parent`, removed by `cleanup` or at the end of a `with` block."""

    def __init__(self, parent: Path) -> None:
        self._folder, lock = _locked_folder(parent)
        self._unlock = weakref.finalize(self, os.close, lock)
        self.name = self._folder.name

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_error: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        self._folder.cleanup()
        self._unlock()


def _locked_folder(parent: Path) -> tuple[tempfile.TemporaryDirectory[str], int]:
    while True:
        folder = tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True)
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder.name, os.O_RDONLY | os.O_DIRECTORY)
            with contextlib.suppress(OSError):  # a file system without locks: there no leftover is removed either
                fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.isdir(folder.name):
                return folder, lock
            os.close(lock)
        folder.cleanup()  # another process took it for a leftover before it was locked


def remove_leftovers(parent: Path) -> None:
    """Remove the private folders in `parent` that no process holds. Leaves those of other users."""
    found = []
    with contextlib.suppress(OSError), os.scandir(parent) as entries:  # it may be written, but not listed
        found = [entry for entry in entries if entry.name.startswith(PREFIX)]
    for entry in found:
        with contextlib.suppress(OSError):  # in use, of another user, or already removed
            if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                with locked_leftover(entry.path, os.O_RDONLY | os.O_DIRECTORY):
                    shutil.rmtree(entry.path)
