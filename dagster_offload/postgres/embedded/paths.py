"""Names and paths of one home's server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = "offload"  # the role and the database
PORT = 5432  # only part of the socket's name; there is no TCP port
LOG_BYTES = 4_000_000  # a larger log is rotated at the next start; one older log is kept


@dataclass(frozen=True)
class Paths:
    """The paths of one home's server. The home's owner owns all of them except `data`."""

    home: Path

    @property
    def postgres(self) -> Path:
        """The folder that holds everything else."""
        return self.home / "postgres"

    @property
    def server_lock(self) -> Path:
        """Locked by the process that starts or stops the server."""
        return self.postgres / "lock"

    @property
    def alive(self) -> Path:
        """Locked by the server while any of its processes runs."""
        return self.postgres / "alive"

    @property
    def data(self) -> Path:
        """The data folder, owned by the server's account."""
        return self.postgres / "data"

    @property
    def always_there(self) -> tuple[Path, ...]:
        """Files of every complete data folder. If one is missing, the folder is being removed, or was damaged."""
        return (self.data / "PG_VERSION", self.data / "global" / "pg_control")

    @property
    def pid_file(self) -> Path:
        """Written by Postgres; its first line is the server's process id."""
        return self.data / "postmaster.pid"

    @property
    def log(self) -> Path:
        """The server's log, appended to by every start."""
        return self.postgres / "server.log"

    @property
    def access_rules(self) -> Path:
        """The `hba_file` that `write_access_rules` renews."""
        return self.postgres / "pg_hba.conf"

    @property
    def user_names(self) -> Path:
        """The `ident_file` that maps the home's owner to the database role."""
        return self.postgres / "pg_ident.conf"


@contextmanager
def open_log(paths: Paths) -> Iterator[int]:
    """Yield a file descriptor at the end of the server's log. Only the home's owner can read the log."""
    fd = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def rotate_log(paths: Paths) -> int:
    """Rename a log over `LOG_BYTES`. Returns the byte offset at which the next messages begin."""
    size = paths.log.stat().st_size if paths.log.exists() else 0
    if size <= LOG_BYTES:
        return size
    paths.log.replace(paths.log.with_suffix(".log.1"))
    return 0
