"""One library, one home and one slot: the processes that people start, and how they are killed."""

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg.rows import dict_row

from dagster_offload.postgres import server_pid
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.service.prefork_client import ASKED
from dagster_offload.simulator import Router
from tests.chaos.library import Library
from tests.support.acceptance import Home
from tests.support.patience import PATIENCE_SECONDS

PERMITS = 4
LATENCY_SECONDS = 0.4


class Slot:
    """The stand-in router in a process of its own, which is never killed. Its log counts the calls."""

    def __init__(self, folder: Path) -> None:
        argv = [sys.executable, "-m", "dagster_offload.cli", "simulate-router", "--port", "0"]
        self._process = subprocess.Popen(
            [*argv, "--latency", str(LATENCY_SECONDS), "--concurrency", str(PERMITS)],
            stdout=subprocess.PIPE,
            cwd=folder,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = next(word for word in self._process.stdout.readline().split() if word.startswith("http"))

    def set(self, **changes: Any) -> None:
        httpx.post(f"{self.url}/admin/state", json=changes, timeout=PATIENCE_SECONDS).raise_for_status()

    def open_calls(self) -> int:
        found = httpx.post(f"{self.url}/admin/wait", json={"timeout": 5}, timeout=PATIENCE_SECONDS).json()
        return int(found["open"])

    def answered(self) -> Counter[tuple[str, str]]:
        """How often each stage of each document (a fingerprint of its text) was answered."""
        log = httpx.get(f"{self.url}/admin/log", timeout=PATIENCE_SECONDS).json()["requests"]
        return Counter(
            (entry["document"], entry["stage"]) for entry in log if entry["document"] and entry["outcome"] == "answered"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True)
class Kill:
    """What was killed or stopped. Any call that its `workers` had open may be repeated."""

    what: str
    round_number: int
    workers: int = 0
    open_calls: int = 0


@dataclass
class World:
    """The home, its slot and library, and the kills so far. Times are in seconds."""

    home: Home
    slot: Slot
    library: Library
    rng: random.Random
    changed_at_once: int = 100  # letters, when little work is left
    kills: list[Kill] = field(default_factory=list)
    round_number: int = 0
    ended_by_dagster: int = 0  # drains that Dagster ended with its message

    # Commands

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return self.home.start(*arguments)

    def finish(self, process: subprocess.Popen[str], seconds: float) -> int:
        """Wait for a process to end; its exit code."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BrokenPromise(f"{_named(process)} did not end within {seconds:.0f} s") from None

    def sql(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Run SQL on the ledger's schema, through a connection of the test."""
        with psycopg.connect(
            ensure_embedded(self.home.home), row_factory=dict_row, autocommit=True, application_name="chaos"
        ) as connection:
            connection.execute("set search_path to offload")
            found = connection.execute(query.encode(), parameters or None)
            return found.fetchall() if found.description else []

    # Kills

    def kill(self, process: psutil.Process | subprocess.Popen[str], what: str, *, workers: int = 0) -> None:
        """kill -9, unless the process has ended by itself."""
        open_calls = min(self.slot.open_calls(), PERMITS * workers)
        try:
            is_alive = process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running()
            process.kill()
        except psutil.NoSuchProcess:
            is_alive = False
        if is_alive:
            self.kills.append(Kill(what, self.round_number, workers, open_calls))
        if isinstance(process, subprocess.Popen):
            process.wait()

    def kill_postgres(self, how: signal.Signals) -> None:
        """`how` is SIGKILL, or SIGQUIT as `pg_ctl stop -m immediate` sends it."""
        pid = server_pid(self.home.home)
        if pid is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(how)
            what = "Postgres, kill -9" if how is signal.SIGKILL else "Postgres, immediate"
            self.kills.append(Kill(what, self.round_number))

    def kill_everything(self) -> None:
        """Kill all processes at once, like a power cut. The slot stays up, because it is another host."""
        open_calls = self.slot.open_calls()
        self.home.kill_processes()
        self.kills.append(Kill("the whole tree", self.round_number, 2, min(open_calls, PERMITS)))

    def stop(self) -> "subprocess.CompletedProcess[str]":
        """`dagster-offload stop`. It counts as a kill, because it cuts open calls."""
        self.kills.append(Kill("stop", self.round_number, 1, PERMITS))
        return self.home.run("stop")

    # Clocks

    def let_the_dead_look_dead(self) -> None:
        """Make the heartbeats of ended processes older, so that a round need not wait until they are stale."""
        for worker in self.sql("select worker_id, pid from workers where ended_at is null"):
            if not psutil.pid_exists(worker["pid"]):
                self.sql(
                    "update workers set heartbeat_at = heartbeat_at - interval '20 s' where worker_id = %s",
                    worker["worker_id"],
                )

    def let_every_wait_be_over(self) -> None:
        self.sql("update slots set retry_at = clock_timestamp() where breaker = 'open'")
        self.sql("update work_items set not_before = clock_timestamp() where not_before > clock_timestamp()")


class BrokenPromise(AssertionError):  # noqa: N818 - named like the promises
    """A promise that the product did not keep; `rows` are the facts."""

    def __init__(self, promise: str, rows: list[dict[str, Any]] | None = None) -> None:
        super().__init__(promise)
        self.rows = rows or []


@contextmanager
def a_world(seed: int, letters: int) -> Iterator[World]:
    """A home in a folder with a short name. At the end all processes are ended and the folder is removed."""
    folder = Path(
        tempfile.mkdtemp(prefix="offload-chaos-", dir="/tmp")
    ).resolve()  # a socket's path has about 100 bytes
    folder.chmod(0o711)  # root's Postgres runs as another user
    slot = Slot(folder)
    home = Home(folder, cast(Router, SimpleNamespace(url=slot.url)))
    home.environment["OFFLOAD_DEEP_CONCURRENCY"] = str(PERMITS)
    rng = random.Random(seed)
    world = World(home, slot, Library(home.library, rng), rng)
    world.library.fill(letters)
    try:
        yield world
    finally:
        home.end()
        slot.close()
        shutil.rmtree(folder, ignore_errors=True)


def _named(process: subprocess.Popen[str]) -> str:
    """The command that a process of `Home.start` or `Home.start_python` runs."""
    words = [str(word) for word in cast(Sequence[str], process.args)]
    return " ".join(words[words.index(ASKED) + 2 :] if ASKED in words else words[3:])


def pause_until(deadline: float) -> None:
    time.sleep(max(0.0, deadline - time.monotonic()))
