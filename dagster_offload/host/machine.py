"""Which machine this is, how long it slept, and which process has an id: another machine, a container or a later boot may
use the same one."""

import socket
import subprocess
import time
from functools import cache
from pathlib import Path

# A clock that continues in a sleep and one that stops: of Linux and of macOS (clock_gettime(2) and (3)).
_CLOCKS_OF_SLEEP = (("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"), ("CLOCK_MONOTONIC", "CLOCK_UPTIME_RAW"))


def host_name() -> str:
    """The name of this host."""
    return socket.gethostname()


@cache  # on macOS a program says it, and every heartbeat needs it
def boot_id() -> str:
    """An identifier that changes with every boot of this host."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    return linux.read_text().strip() if linux.exists() else _boot_session()


def _boot_session() -> str:
    # macOS. Its `kern.boottime` changes when the clock is set, and its host name with the network.
    return subprocess.run(
        ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=True
    ).stdout.strip()


def seconds_slept() -> float:
    """How long this machine has been suspended since it was started. A virtual machine that is paused does not know it."""
    for continues, stops in _CLOCKS_OF_SLEEP:
        if hasattr(time, continues) and hasattr(time, stops):
            return time.clock_gettime(getattr(time, continues)) - time.clock_gettime(getattr(time, stops))
    return 0.0


def process_start(pid: int) -> str | None:
    """The start time of a process, as text; None if no process has this id. A later process with the id has another."""
    try:
        # proc(5): the command name is in parentheses and may contain any character; starttime is field 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "TZ": "UTC"},  # the text depends on both, and another process compares it
    )
    return listed.stdout.strip() or None
