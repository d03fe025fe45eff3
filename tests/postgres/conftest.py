"""Fixtures: homes with short paths, whose servers stop with the test, and separate processes that use a home."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded.accounts import ROOT_RUNS_AS
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.postgres.embedded.sockets import socket_folder
from tests.support.database import WITHOUT_FSYNC
from tests.support.postgres import IS_ROOT, PRELUDE, RunProcess
from tests.support.short_folders import make_short_folder


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """An empty folder that root's server can reach.

    Servers of homes below it are stopped after the test.
    """
    folder = make_short_folder()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for lock in folder.rglob("postgres/alive"):
            if lock.parents[1].stat().st_uid == os.geteuid():
                stop_postgres(lock.parents[1])
            shutil.rmtree(socket_folder(lock.parent), ignore_errors=True)  # it may be outside the home
        shutil.rmtree(folder)


@pytest.fixture
def home(short_folder: Path) -> Path:
    """A home that does not exist yet."""
    return short_folder / "home"


@pytest.fixture
def start() -> Callable[[Path], str]:
    """Starts the home's server without fsync and returns its URL."""
    return lambda home: ensure_embedded(home, options=WITHOUT_FSYNC)


@pytest.fixture
def run_process() -> Iterator[RunProcess]:
    """Starts Python programs that use a home, each in its own process group."""
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
    """An unrelated process that runs as the server's user, so that the server could harm it."""
    user = pwd.getpwnam(ROOT_RUNS_AS).pw_uid if IS_ROOT else None
    process = subprocess.Popen(["sleep", "600"], user=user, cwd="/")
    try:
        yield process
    finally:
        process.kill()
        process.wait()
