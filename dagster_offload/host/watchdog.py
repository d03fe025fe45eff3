"""Ends the process groups of a dead process, even after `kill -9`. Run as a script, standard library only.

The arguments are the existing groups (PGID). Standard input is a pipe from their owner: `+PGID` reports a group that it
started, `-PGID` one that has ended. Only the owner holds the other end, so end-of-file means that it died. After a normal
stop all groups have ended already.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator

GRACE_SECONDS = 5.0


def main() -> None:
    """Wait for the end of the owner, then end its groups: SIGTERM, and SIGKILL after 5 s."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the watchdog ends after the owner, not before
    groups = set(map(int, sys.argv[1:]))
    for line in sys.stdin:
        group = int(line[1:])
        if line.startswith("+"):
            groups.add(group)
        else:
            groups.discard(group)
    _signal_groups(groups, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while groups and time.monotonic() < deadline:
        time.sleep(0.1)
        groups = {group for group in groups if is_alive(group)}
    _signal_groups(groups, signal.SIGKILL)


def start(groups: Iterable[int]) -> subprocess.Popen[bytes]:
    """A watchdog over these groups, in a session of its own. Its standard input is a pipe."""
    # The groups are arguments: sent later, they would be lost if the owner died before it sent them.
    return subprocess.Popen(  # noqa: S603 - our own script
        (sys.executable, "-I", "-S", __file__, *map(str, groups)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextlib.contextmanager
def watching(group: int) -> Iterator[None]:
    """During the block, the group ends with this process. The block must end the group. Raises `OSError`."""
    process = start([group])
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):  # it was killed
            process.communicate(f"-{group}\n".encode())


def is_alive(group: int) -> bool:
    """Whether any process of the group still runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the id now belongs to another user's group
        return False
    return True


def _signal_groups(groups: set[int], signum: signal.Signals) -> None:
    for group in groups:
        try:
            os.killpg(group, signum)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
