"""Small file systems for tests. They need root and the right to mount."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.engine import Engine


class Disk:
    """A small file system. `fill` leaves only so many bytes free; `free` removes what `fill` wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Write zeros until `leave` bytes are free. Space that another program frees meanwhile is filled too."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while (count := self.free_bytes - leave) > 0:
                file.write(bytes(min(count, 1 << 20)))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(megabytes: int) -> Iterator[Disk]:
    """Mount a file system of this size. Skips the test where that is not possible."""
    folder = Path(tempfile.mkdtemp(prefix=f"offload-disk-{os.getpid()}-", dir="/tmp"))
    try:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        try:
            yield Disk(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        shutil.rmtree(folder)


@contextmanager
def no_space_for_updates(engine: Engine, table: str) -> Iterator[Callable[[int, Future[Any]], None]]:
    """Let every update of a table fail as on a full disk.

    Yields a function that waits until so many have failed, while this work goes on. If the work ends, it raises its error.
    """
    engine.sql("create sequence refused_updates")  # a rollback does not take its numbers back
    engine.sql(
        "create function refuse_update() returns trigger language plpgsql as $$ begin perform nextval('refused_updates'); "
        "raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$"
    )
    engine.sql(f"create trigger full_disk before update on {table} for each row execute function refuse_update()")

    def wait_for_refused(count: int, work: Future[Any]) -> None:
        while not engine.sql("select 1 from refused_updates where is_called and last_value >= %s", count):
            assert not work.done(), work.result()
            engine.sql("select pg_sleep(0.02)")

    try:
        yield wait_for_refused
    finally:
        engine.sql(f"drop trigger full_disk on {table}")


def fill_pages(url: str) -> None:
    """Write rows until Postgres, on a full disk, has no space left for any other."""
    with psycopg.connect(url, autocommit=True) as connection, contextlib.suppress(psycopg.OperationalError):
        connection.execute("create table ballast (filler text)")
        for _ in range(1000):
            connection.execute(
                "insert into ballast select repeat(md5(random()::text), 200) from generate_series(1, 500)"
            )
