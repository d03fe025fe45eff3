"""Recognize pseudo file systems, which show the state of the running system instead of stored files."""

import os
from pathlib import Path

_PSEUDO = frozenset(
    """
    autofs bdev binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts devtmpfs efivarfs fusectl hugetlbfs mqueue nsfs
    proc pstore resctrl rpc_pipefs securityfs selinuxfs smackfs sysfs tracefs
    """.split()  # noqa: SIM905 - a list of quoted words is no easier to read
)
_MOUNTS = Path("/proc/self/mountinfo")


def is_pseudo_file_system(device: int) -> bool:
    """Whether `device` (a `st_dev`) is a pseudo file system. False if the system does not report it (as macOS)."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    # Fields (proc_pid_mountinfo(5)): id, parent, major:minor, root, mount point, options, optional fields, "-", type ...
    return any(line.split()[2] == number and line.partition(" - ")[2].split()[0] in _PSEUDO for line in lines)
