"""How many extractor children run at once, and how much memory each may take: decided by the machine, not by a constant.

A child's limit is on its address space, which is larger than the memory it uses, so three quarters of the machine's
memory are shared out. Where that is too little for one child per core, fewer run.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

LEAST_BYTES = 768 * 1024**2  # a child with its libraries and an ordinary document
MOST_BYTES = 4 * 1024**3
_SHARE = 0.75
# Of a container: version 2 and version 1 of Linux control groups. Either may hold a number beyond all memory, or "max".
_CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Children:
    count: int
    memory_limit_bytes: int  # of each


def children_for(wanted: int, memory_bytes: int) -> Children:
    """At most `wanted` children, at least one, on a machine with so much memory."""
    budget = int(memory_bytes * _SHARE)
    count = max(1, min(wanted, budget // LEAST_BYTES))
    return Children(count, min(max(budget // count, LEAST_BYTES), MOST_BYTES))


def memory_of_this_machine() -> int:
    """Bytes of memory, of the container where it has less than the machine."""
    limits = [limit for file in _CONTAINER_LIMITS if (limit := _number_in(file)) is not None]
    return min([int(psutil.virtual_memory().total), *limits])


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such control group, or "max"
        return None
