"""Ends the process groups of a supervisor that is gone, `kill -9` included: run as a script, standard library only.

Its arguments are the groups (PGID) there are already. Standard input is a pipe of which only the supervisor holds the
other end, so end-of-file means that it died. It says `+PGID` for a group it started and `-PGID` for one that has ended.
A supervisor that ends its children itself leaves nothing to do here.
"""

import os
import signal
import sys
import time

GRACE_SECONDS = 5.0


def main() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # we end when the supervisor does, and only then
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
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the number was given to somebody else's group
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
