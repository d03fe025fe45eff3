"""Recognize faults of this machine that no document causes: a full disk, missing permissions, too many open files."""

import errno
import os
import re

from dagster_offload.text.lines import first_line

ADVICE = "set TMPDIR to a folder of your own, on a disk with free space that is not mounted noexec"
MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO}
)
# How glibc, musl and macOS say it.
_NO_MEMORY = r"cannot map|failed to map|cannot allocate|out of memory"


def import_pdfium() -> None:
    """Import PDFium before its first use: text files need none, and its import is a fifth of a child's start.

    Raises `ImportError` for every fault of its installation, also if the system cannot load its library, and if
    the library does not fit the memory limit (`is_out_of_memory`).
    """
    try:
        import pypdfium2.raw  # noqa: F401 - only loaded
    except OSError as error:
        raise ImportError(str(error), name="pypdfium2") from error


def is_out_of_memory(error: ImportError) -> bool:
    """Whether the system had too little memory to load a library. A `noexec` mount is refused by a permission."""
    is_refused = re.search(r"not permitted|permission denied", str(error), re.IGNORECASE)
    return not is_refused and re.search(_NO_MEMORY, str(error), re.IGNORECASE) is not None


def describe_missing(error: ImportError) -> str:
    """Return which library of the readers cannot be imported, why, and what to do."""
    return f"the library {error.name} cannot be imported ({first_line(error)}): install dagster-offload again"


def describe(number: int) -> str:
    """Return the system's message for an error number, and what to change."""
    return f"{os.strerror(number).lower()}: {ADVICE}"
