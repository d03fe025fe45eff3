"""Where things of one home's server lie, and what they are called."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NAME = "offload"  # the role and the database
PORT = 5432  # only a part of the socket's name: there is no TCP port
LOG_BYTES = 4_000_000  # a log longer than this is set aside at the next start; one older one is kept


@dataclass(frozen=True)
class Paths:
    """The paths of one home's server. All but `data` belong to the home's owner."""

    home: Path

    @property
    def postgres(self) -> Path:
        return self.home / "postgres"

    @property
    def server_lock(self) -> Path:
        """Held by the door that starts or stops the server."""
        return self.postgres / "lock"

    @property
    def alive(self) -> Path:
        """Held by the server while any process of it lives."""
        return self.postgres / "alive"

    @property
    def data(self) -> Path:
        return self.postgres / "data"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def log(self) -> Path:
        return self.postgres / "server.log"

    @property
    def access_rules(self) -> Path:
        return self.postgres / "pg_hba.conf"

    @property
    def user_names(self) -> Path:
        return self.postgres / "pg_ident.conf"


@contextmanager
def open_log(paths: Paths) -> Iterator[int]:
    """A file descriptor at the end of the server's log, readable by the home's owner only."""
    fd = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def turn_log(paths: Paths) -> int:
    """Set a long log aside; returns the byte at which the next words begin."""
    size = paths.log.stat().st_size if paths.log.exists() else 0
    if size <= LOG_BYTES:
        return size
    paths.log.replace(paths.log.with_suffix(".log.1"))
    return 0
