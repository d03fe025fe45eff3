"""Which machine this is, how long it slept, and which process has an id: another machine, a container or a later boot may
use the same one."""

import socket
import subprocess
import sys
import time
from functools import cache
from pathlib import Path


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
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    if sys.platform == "darwin":  # its monotonic clock continues in a sleep (clock_gettime(3))
        return time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_UPTIME_RAW)
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
