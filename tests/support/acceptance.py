"""Real processes: `up` and other commands as a person starts them, in a home that belongs to the test."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from dagster_offload.postgres import server_pid, stop_postgres
from dagster_offload.simulator import Router
from tests.support.forked_commands import run_command, start_command
from tests.support.ledger_reader import LedgerReader
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ports import hold_port, port_of
from tests.support.short_folders import make_short_folder
from tests.support.started_home import copy_started_home

CLI = ("-m", "dagster_offload.cli")


def wait_for(condition: Callable[[], bool], what: str | Callable[[], str], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition is true. Raises `AssertionError` after `seconds`, with `what` it waited for.

    The slower a condition is, the less often it is checked: checks take a twentieth of a core, and leave the rest to what
    they wait for.
    """
    deadline = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if condition():
            return
        if time.monotonic() >= deadline:
            raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {seconds:.0f} s")
        time.sleep(max(0.05, 19 * (time.monotonic() - began)))


def wait_for_open_calls(router: Router, number: int, drain: subprocess.Popen[str], home: "Home") -> None:
    """Wait until `number` calls are open at the router. If the drain ends first, fail with its output."""
    wait_for(lambda: drain.poll() is not None or router.log()["open"] >= number, f"{number} open calls")
    assert drain.poll() is None, home.said


def is_running(process: psutil.Process) -> bool:
    """Whether the process runs and is no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    """The command line of a process from `Home.processes`."""
    return " ".join(process.info["cmdline"] or [])


class Home:
    """One home, and the commands that a person runs on it."""

    def __init__(self, folder: Path, router: Router) -> None:
        self.folder = folder
        self.library = folder / "library"
        self.library.mkdir()
        self.home = folder / "home"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")} | {
            "OFFLOAD_HOME": str(self.home),
            "OFFLOAD_LIBRARY": str(self.library),
            "OFFLOAD_DEEP_URL": router.url,
            "OFFLOAD_DEEP_MODEL": "qwen-macbook",
        }
        self.ledger = LedgerReader(self.home)
        self.started: list[subprocess.Popen[str]] = []
        self._reserved: list[socket.socket] = []

    def write(self, name: str, text: str) -> None:
        (self.library / name).write_text(text, encoding="utf-8")

    def run(self, *arguments: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in a process that is forked. `run_python(*CLI, ...)` starts Python."""
        return run_command(*arguments, environment=self.environment, folder=self.folder, seconds=seconds)

    def run_python(self, *arguments: str, seconds: float = PATIENCE_SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, *arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process that is forked. Its output goes to the file `said`."""
        with (self.folder / "said").open("a") as said:
            process = start_command(*arguments, environment=self.environment, folder=self.folder, output=said)
        self.started.append(process)
        return process

    def start_python(self, *arguments: str, python: tuple[str, ...] = CLI) -> subprocess.Popen[str]:
        """Start a command in a session of its own. Its output goes to the file `said`."""
        with (self.folder / "said").open("a") as said:
            process = subprocess.Popen(
                (sys.executable, *python, *arguments),
                env=self.environment,
                cwd=self.folder,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def up(self, *arguments: str, python: tuple[str, ...] = CLI) -> subprocess.Popen[str]:
        """Start `up` on a reserved port and wait until its own UI answers."""
        process = self.start_python("up", "--port", str(self.reserve_port()), *arguments, python=python)
        wait_for(lambda: process.poll() is not None or self._is_up(process.pid), "the UI")
        assert process.poll() is None, self.said
        return process

    def reserve_port(self) -> int:
        """A port for a server of this home. It is held until `end`."""
        self._reserved.append(hold_port())
        return port_of(self._reserved[-1])

    @property
    def address(self) -> str:
        return str(self._lock()["address"])

    def _is_up(self, pid: int) -> bool:
        found = self._lock()  # after a kill it may still have the address of an earlier `up`
        return found.get("pid") == pid and bool(found["address"])

    def _lock(self) -> dict[str, Any]:
        """The contents of the lock file of the running `up`; empty if there is none."""
        try:
            found: dict[str, Any] = json.loads((self.home / "up.lock").read_text())
        except (OSError, ValueError):
            return {}
        return found

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def processes(self) -> list[psutil.Process]:
        """Every process that works on this home, including Postgres and its children, but not the forks of `run` and `start`.

        What was known of a process is in its `info` (`name`, `ppid`, `cmdline`, `environ`), because it may end at any time.
        """
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.NoSuchProcess):  # it has ended
                if not self._names_home(Path("/proc", str(pid))):
                    continue
                process = psutil.Process(pid)
                process.info = process.as_dict(["name", "ppid", "cmdline", "environ"])
                if is_running(process):
                    found.append(process)
        return found

    def wait_until_only_postgres_runs(self) -> None:
        """Wait until its own Postgres runs and every other process of this home has ended."""

        def others() -> list[str]:
            return [command_line(process) for process in self.processes() if process.info["name"] != "postgres"]

        wait_for(lambda: others() == [], lambda: f"the end of {others()}")
        wait_for(lambda: server_pid(self.home) is not None, "Postgres")

    def wait_until_nothing_runs(self) -> None:
        """Wait until every process of this home has ended. One that was killed ends some time after the signal."""
        wait_for(lambda: self.processes() == [], lambda: f"the end of {list(map(command_line, self.processes()))}")

    def _names_home(self, process: Path) -> bool:
        """Whether the command line or the environment of a process in /proc names this home. psutil takes far longer to read both
        of every process of the machine."""
        home = os.fsencode(self.home)
        is_in_environment = b"OFFLOAD_HOME=" + home in (process / "environ").read_bytes().split(b"\0")
        return is_in_environment or home in (process / "cmdline").read_bytes()

    def kill_processes(self, *, but: str = "") -> None:
        """Kill -9 every process of this home at once, and wait until they have ended. `but` is the name of others."""
        left = None
        while left != []:
            left = [process for process in self.processes() if process.info["name"] != but]
            for process in (*self.started, *left):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            for started in self.started:
                started.wait()
            psutil.wait_procs(left, timeout=PATIENCE_SECONDS)

    def end(self) -> None:
        """Kill every process of this home, stop its Postgres and give back its ports."""
        self.ledger.close()
        self.kill_processes(but="postgres")
        stop_postgres(self.home)
        for holder in self._reserved:
            holder.close()


@contextlib.contextmanager
def a_home(router: Router) -> Iterator[Home]:
    """A home that was started once and is empty."""
    with new_home(router) as home:
        copy_started_home(home.home)
        yield home


@contextlib.contextmanager
def new_home(router: Router) -> Iterator[Home]:
    """A home that was never started."""
    folder = make_short_folder()
    folder.chmod(0o711)  # root's Postgres runs as another user
    home = Home(folder, router)
    try:
        yield home
    finally:
        home.end()
        shutil.rmtree(folder)
