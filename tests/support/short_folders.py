"""Folders with short paths for homes: a socket's path may have about 100 bytes.

They are in memory if there is enough. On ext4, a new file takes the longer the more files were removed in the last minutes
(`recently_deleted` in Linux' fs/ext4/ialloc.c), and each home has 1,700.
"""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dagster_offload.postgres import stop_postgres

PREFIX = "offload-tests-"  # followed by the session's pid
MEMORY, DISK = Path("/dev/shm"), Path("/tmp")
ENOUGH_MEMORY = 4 * 2**30  # bytes: a session needs about 500 MB


def make_short_folder() -> Path:
    """A new, empty folder. The caller removes it."""
    parent = MEMORY if _has_memory() else DISK
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent)).resolve()


def stop_servers_below(folder: Path) -> None:
    """Stop each Postgres whose home is this folder or in it."""
    for found in folder.rglob("postmaster.pid"):
        stop_postgres(found.parents[2])


def remove_those_of_killed_sessions() -> None:
    """Remove what sessions left that had no time to: they would keep the memory."""
    for folder in (*MEMORY.glob(f"{PREFIX}*"), *DISK.glob(f"{PREFIX}*")):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(FileNotFoundError):  # another session that starts now does the same, or one has just ended
            if folder.owner() == Path("/proc/self").owner() and not psutil.pid_exists(int(pid)):
                stop_servers_below(folder)
                shutil.rmtree(folder, ignore_errors=True)


def _has_memory() -> bool:
    """Whether homes may be in memory. A server's programs may be copied into its home and must be able to run."""
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(MEMORY)
    return found.f_bavail * found.f_frsize >= ENOUGH_MEMORY and not found.f_flag & os.ST_NOEXEC
