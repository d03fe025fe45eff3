"""Runs a program of the owner's, such as a sink or the command that wakes a machine."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from dagster_offload.host import watchdog

KILLED_SECONDS = 5.0  # for a killed program to end


class Program:
    """A program and its arguments, run without a shell, in a process group of its own.

    Its output is not kept, because it may quote a document.
    """

    def __init__(self, arguments: Sequence[str], timeout: float, folder: Path | None = None) -> None:
        """`timeout` is in seconds. `folder`: the working folder, if it exists."""
        self._arguments = [os.path.expanduser(arguments[0]), *arguments[1:]]
        self._timeout = timeout
        self._folder = folder
        self._starting = threading.Lock()  # a program that has started can be killed: `kill` waits until it is known
        self._running: subprocess.Popen[bytes] | None = None
        self._is_killed = False

    def run(self, given: bytes = b"") -> int:
        """Run it with this standard input. Returns its exit code; `-N` if signal N ended it.

        After `kill`, it is not started, and the result is that of a killed program.
        Raises `OSError` if it cannot be started, and `subprocess.TimeoutExpired` at the time limit. The program and its group
        are killed then, and after any other error.
        """
        with self._starting:
            if self._is_killed:
                return -signal.SIGKILL
            process = self._running = subprocess.Popen(  # noqa: S603 - the owner's own program, no shell
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder if self._folder is not None and self._folder.is_dir() else None,
                start_new_session=True,
            )
        try:
            with self._while_running(process):
                process.communicate(given, timeout=self._timeout)
        except BaseException:
            _kill(process)
            with contextlib.suppress(subprocess.TimeoutExpired):  # a program of another user cannot be killed
                process.wait(KILLED_SECONDS)
            raise
        finally:
            self._running = None
        return process.returncode

    def _while_running(self, _process: subprocess.Popen[bytes]) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def kill(self) -> None:
        """Kill it for good, with all that it started. For another thread than that of `run`."""
        with self._starting:
            self._is_killed = True
            running = self._running
        if running is not None:
            _kill(running)


class WatchedProgram(Program):
    """A program that ends with the process that runs it, with all that it started, even after `kill -9`."""

    def _while_running(self, process: subprocess.Popen[bytes]) -> contextlib.AbstractContextManager[None]:
        return watchdog.watching(process.pid)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
