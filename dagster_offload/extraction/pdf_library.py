"""kreuzberg's PDF library, loaded once per child, from the child's own private folder and from nowhere else."""

import errno
import functools
import os
import re
import shutil
import stat
from pathlib import Path

import kreuzberg

from dagster_offload.extraction.file_types import EMPTY_PDF, PDF

ADVICE = "set TMPDIR to a folder of your own, on a disk with room that may run programs"
# A fault of the machine, whatever is in the document.
MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO}
)
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust quotes the system


class MachineUnfit(Exception):  # noqa: N818 - an answer, not an error of the child
    """This machine, as it is, cannot read such a file. The message says why, and what to change."""


def require() -> None:
    """Have the library loaded. Raises `MachineUnfit`."""
    if (reason := _why_not_loaded()) is not None:
        raise MachineUnfit(f"the PDF library cannot be loaded: {reason}: {ADVICE}")


def refuse_machine_fault(error: Exception) -> None:
    """Raise `MachineUnfit` where an error of the extractor is one of the system that no document causes."""
    found = _SYSTEM_ERROR.search(str(error))
    if found is not None and int(found[1]) in MACHINE_ERRNOS:
        raise MachineUnfit(in_words(int(found[1]))) from None


def in_words(number: int) -> str:
    return f"{os.strerror(number).lower()}: {ADVICE}"


@functools.cache
def _why_not_loaded() -> str | None:
    folder = Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108 - refused just below
    if not _is_private(folder):
        return f"{folder} is not private"
    try:
        kreuzberg.extract_bytes_sync(EMPTY_PDF, PDF, kreuzberg.ExtractionConfig(use_cache=False))
    except kreuzberg.KreuzbergError as error:
        return _last_words(str(error))
    finally:
        # The library is mapped by now. Without the file nothing stays behind, however this process ends.
        shutil.rmtree(folder / "kreuzberg-pdfium", ignore_errors=True)
    return None


def _is_private(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _last_words(message: str) -> str:
    """The line of an error that says what the system said; the rest is kreuzberg's own tree of causes."""
    lines = [line.strip(' ",') for line in message.splitlines() if "source:" in line or "os error" in line]
    return (lines or [message.strip()])[-1].removeprefix("source:").strip(' "')[-200:]
