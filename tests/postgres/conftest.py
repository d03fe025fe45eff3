"""Homes with short paths, whose servers end with the test; doors as processes of their own."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded.accounts import ROOT_RUNS_AS
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.postgres.embedded.sockets import socket_folder
from tests.support.database import WITHOUT_FSYNC
from tests.support.postgres import IS_ROOT, PRELUDE, Door


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder of the test's own, near the root: sockets fit below it, and root's server can reach it.

    Servers of homes below it are stopped with the test.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"offload-tests-{os.getpid()}-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for lock in folder.rglob("postgres/alive"):
            if lock.parents[1].stat().st_uid == os.geteuid():
                stop_postgres(lock.parents[1])
            shutil.rmtree(socket_folder(lock.parent), ignore_errors=True)  # it may lie elsewhere
        shutil.rmtree(folder)


@pytest.fixture
def home(short_folder: Path) -> Path:
    """A home that does not exist yet."""
    return short_folder / "home"


@pytest.fixture
def start() -> Callable[[Path], str]:
    return lambda home: ensure_embedded(home, options=WITHOUT_FSYNC)


@pytest.fixture
def door() -> Iterator[Door]:
    """Starts processes that do something with a home, each in a process group of its own."""
    started: list[subprocess.Popen[str]] = []

    def run(
        home: Path, body: str, *, env: Mapping[str, str] | None = None, prelude: str = ""
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + prelude + body, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            process_group=0,
        )
        started.append(process)
        return process

    try:
        yield run
    finally:
        for process in started:
            process.kill()
            process.communicate()


@pytest.fixture
def foreign_process() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with us and runs as the server's user, so that the server could harm it."""
    user = pwd.getpwnam(ROOT_RUNS_AS).pw_uid if IS_ROOT else None
    process = subprocess.Popen(["sleep", "600"], user=user, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.wait()
