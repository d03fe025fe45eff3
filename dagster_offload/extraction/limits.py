"""Decide from the machine's memory how many extractor children run at once and how much memory each may use.

The limit of a child applies to its address space, which is larger than the memory it uses. The children therefore
share three quarters of the machine's memory. If that is too little for one child per core, fewer children run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

MIN_BYTES = 768 * 1024**2  # a child with its libraries and an ordinary document
MAX_BYTES = 4 * 1024**3
_SHARE = 0.75
_MOST_KEPT = 1 / 3  # of its limit, by a child between two documents
# The memory limit of a container, in control groups version 2 and version 1. Without a limit, a file holds "max" or a
# number larger than the machine's memory.
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Children:
    """The number of extractor children and the memory limit of each, in bytes."""

    count: int
    memory_limit_bytes: int


def children_for(wanted: int, memory_bytes: int) -> Children:
    """Return at least one and at most `wanted` children for a machine with `memory_bytes` of memory."""
    budget = int(memory_bytes * _SHARE)
    count = max(1, min(wanted, budget // MIN_BYTES))
    return Children(count, min(max(budget // count, MIN_BYTES), MAX_BYTES))


def keeps_much(pid: int, memory_limit_bytes: int) -> bool:
    """Whether a child that reads nothing holds so much of its limit that a large document might find too little."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:  # it has died, which the next request finds
        return False
    held = memory.vms if sys.platform == "linux" else memory.rss  # only Linux limits the address space
    return bool(held > _MOST_KEPT * memory_limit_bytes)


def memory_of_this_machine() -> int:
    """Return the memory of this machine in bytes, or of the container if it has less."""
    limits = [limit for file in _CONTAINER_LIMITS if (limit := _number_in(file)) is not None]
    return min([int(psutil.virtual_memory().total), *limits])


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such control group, or "max"
        return None
