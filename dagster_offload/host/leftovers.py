"""Files and folders that a process holds a lock on while it uses them: one without a lock was left by a killed process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def locked_leftover(path: str, flags: int) -> Iterator[None]:
    """Open `path` with these flags and hold its lock for the block. Raises `OSError` if a process holds it. Follows no link."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
