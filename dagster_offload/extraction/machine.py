"""Recognize faults of this machine that no document causes: a full disk, missing permissions, too many open files."""

import errno
import os

ADVICE = "set TMPDIR to a folder of your own, on a disk with free space that is not mounted noexec"
MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO}
)


def import_pdfium() -> None:
    """Import PDFium before its first use: text files need none, and its import is a fifth of a child's start.

    Raises `ImportError` for every fault of its installation, also if the system cannot load its library.
    """
    try:
        import pypdfium2.raw  # noqa: F401 - only loaded
    except OSError as error:
        raise ImportError(str(error), name="pypdfium2") from error


def describe_missing(error: ImportError) -> str:
    """Return which library of the readers cannot be imported, and what to do."""
    return f"the library {error.name} cannot be imported: install dagster-offload again"


def describe(number: int) -> str:
    """Return the system's message for an error number, and what to change."""
    return f"{os.strerror(number).lower()}: {ADVICE}"
