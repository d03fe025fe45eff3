"""Recognize faults of this machine that no document causes: a full disk, missing permissions, too many open files."""

import errno
import os

ADVICE = "set TMPDIR to a folder of your own, on a disk with free space that is not mounted noexec"
MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO}
)


def describe(number: int) -> str:
    """Return the system's message for an error number, and what to change."""
    return f"{os.strerror(number).lower()}: {ADVICE}"
