"""Two kernel locks per home.

The start lock lets one process at a time start or stop the server. The server holds the other lock while it runs.
Both are flock(2) locks on a file. The kernel releases them when the last process with the file open ends, so no lock is
ever stale. The server inherits its lock from the process that starts it, and its children inherit it too. If that lock
is free, no process of that server is left.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_SECONDS = 0.03


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take the lock without waiting. Returns False if another process holds it."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def server_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the home's start lock. Blocks until it is free; calls `on_wait` once if another process holds it."""
    fd = _open(path)
    try:
        if not try_lock(fd):
            on_wait()
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


@contextmanager
def server_lock_within(path: Path, seconds: float) -> Iterator[bool]:
    """Hold the home's start lock if it is free within `seconds`. Yields whether it is held."""
    fd = _open(path)
    try:
        yield wait_until(lambda: try_lock(fd), seconds)
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Return whether a server runs. Tests with a shared lock, so that concurrent tests do not see each other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


@contextmanager
def alive_lock(path: Path) -> Iterator[int | None]:
    """Take the lock that a new server will inherit. Yields None if a server runs. The caller holds the start lock."""
    fd = _open(path)
    try:
        # Retries for a second, because another process may hold the lock briefly in `is_held`.
        yield fd if wait_until(lambda: try_lock(fd), 1.0) else None
    finally:
        os.close(fd)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until `condition` is true. Returns False if it is not true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
