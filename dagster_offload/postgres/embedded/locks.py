"""Two kernel locks per home: one door at a time starts or stops the server, and the server holds one while it lives.

Both are flock(2) on a file: they end with the last process that has the file open, however that process ended, so no
lock is ever stale. The server inherits its lock from the door that starts it, and its children inherit it too: a free
lock means that no process of that server is left.
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
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def server_lock(path: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Hold the home's lock; `on_wait` is called once when somebody else has it. Blocks until it is free."""
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
    """Hold the home's lock if it can be had in time; yields whether it was."""
    fd = _open(path)
    try:
        yield wait_until(lambda: try_lock(fd), seconds)
    finally:
        os.close(fd)


def is_held(path: Path) -> bool:
    """Whether a server lives. Asks with a shared lock, so that askers do not see each other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


@contextmanager
def life_lock(path: Path) -> Iterator[int | None]:
    """Take the server's lock to hand it to a new server; None when one lives. The caller holds the door's lock."""
    fd = _open(path)
    try:
        # A second, because somebody may be asking `is_held` right now.
        yield fd if wait_until(lambda: try_lock(fd), 1.0) else None
    finally:
        os.close(fd)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until `condition` holds; False when `seconds` went by before it did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
