"""Real processes: `up` and other commands as a person starts them, in a home that belongs to the test."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from dagster_offload.simulator import Router

CLI = ("-m", "dagster_offload.cli")
PATIENCE_SECONDS = 120.0  # for a busy machine; every wait ends as soon as its condition is true


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition is true. Raises `AssertionError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)


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
        self.started: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> None:
        (self.library / name).write_text(text, encoding="utf-8")

    def run(self, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, *CLI, *arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def start(self, *arguments: str, python: tuple[str, ...] = CLI) -> subprocess.Popen[str]:
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

    def up(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `up` on a free port of its own and wait until its UI answers."""
        port = () if "--port" in arguments else ("--port", str(free_port()))
        process = self.start("up", *port, *arguments)
        wait_for(lambda: process.poll() is not None or self._is_up(process.pid), "the UI")
        assert process.poll() is None, self.said
        return process

    @property
    def address(self) -> str:
        return str(self._lock()["address"])

    def _is_up(self, pid: int) -> bool:
        found = self._lock()
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
        """Every process that works on this home, including Postgres and its children."""
        found = []
        for process in psutil.process_iter():
            try:
                uses_home = process.environ().get("OFFLOAD_HOME") == str(self.home)
                uses_home = uses_home or any(str(self.home) in word for word in process.cmdline())
            except psutil.Error:
                continue
            if uses_home and is_running(process):
                found.append(process)
        return found

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        self.run("stop")


def free_port() -> int:
    """A port that is free now, outside the range in which `up` looks for one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def a_home(router: Router) -> Iterator[Home]:
    """A home in a folder with a short name, because a socket's path may have about 100 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="offload-up-", dir="/tmp")).resolve()
    folder.chmod(0o711)  # root's Postgres runs as another user
    home = Home(folder, router)
    try:
        yield home
    finally:
        home.end()
        shutil.rmtree(folder)
