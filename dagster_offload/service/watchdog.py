"""Ends the process groups of a dead supervisor, even after `kill -9`. Run as a script, standard library only.

The arguments are the existing groups (PGID). Standard input is a pipe from the supervisor: `+PGID` reports a group that
it started, `-PGID` one that has ended. Only the supervisor holds the other end, so end-of-file means that it died. After
a normal stop all groups have ended already.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def main() -> None:
    """Wait for the end of the supervisor, then end its groups: SIGTERM, and SIGKILL after 5 s."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # the watchdog ends after the supervisor, not before
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
