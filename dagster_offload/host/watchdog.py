"""Ends the process groups of a dead process, even after `kill -9`. Run as a script, standard library only.

The arguments are the existing groups (PGID). Standard input is a pipe from their owner. `+PGID` reports a new group: the
first process of the group writes it (`reporting`), so the owner cannot die before it is written. `-PGID` reports a group that
has ended. Nothing else holds the other end, so end-of-file means that the owner died. After a normal stop all groups have
ended already.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

GRACE_SECONDS = 5.0
# The subshell is for a watchdog that was killed: SIGPIPE then ends only the subshell.
_REPORT = '(echo "+$$" >&0) 2>/dev/null; exec "$@" </dev/null'


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


def reporting(argv: Sequence[str]) -> tuple[str, ...]:
    """The argument vector of a process that reports its group to the watchdog and then becomes `argv`, with the same id.

    Start it as the leader of a group, with the watchdog's standard input as its own. `argv` then reads /dev/null.
    """
    return ("/bin/sh", "-c", _REPORT, "sh", *argv)


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
