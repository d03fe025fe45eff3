"""Recognize faults of this machine that no document causes: a full disk, missing permissions, too many open files."""

import errno
import os
import re

ADVICE = "set TMPDIR to a folder of your own, on a disk with free space that is not mounted noexec"
MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO}
)
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust reports a system error


class MachineUnfit(Exception):  # noqa: N818 - an answer, not an error of the child
    """This machine cannot read such a file in its present state. The message says why and what to change."""


def refuse_machine_fault(error: Exception) -> None:
    """Raise `MachineUnfit` if a reader's error reports a system error that no document causes."""
    found = _SYSTEM_ERROR.search(str(error))
    if found is not None and int(found[1]) in MACHINE_ERRNOS:
        raise MachineUnfit(describe(int(found[1]))) from None


def describe(number: int) -> str:
    """Return the system's message for an error number, and what to change."""
    return f"{os.strerror(number).lower()}: {ADVICE}"
