"""A program as a sink or channel: it reads one record or message as JSON on its standard input. Exit code 0: it has taken it.

Exit code 75 (EX_TEMPFAIL) means: not now. Every other code is a refusal. Its output is not kept, because it may
quote the document.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import Message, Sendable

TEMPORARY = 75


class Command:
    """Runs a program for each record, without a shell. Its process group is killed at the time limit."""

    def __init__(self, arguments: Sequence[str], timeout: float, folder: Path) -> None:
        """`folder`: the working folder of the program."""
        self._arguments = [os.path.expanduser(arguments[0]), *arguments[1:]]
        self._timeout = timeout
        self._folder = folder
        self._running: subprocess.Popen[bytes] | None = None

    def send(self, message: Sendable) -> None:
        """Run the program with this record, as one line. Raises `SinkFault`."""
        code = self._run(message.body + b"\n")
        if code == TEMPORARY:
            raise SinkFault(Blame.UNAVAILABLE, f"exit code {TEMPORARY}: not now")
        if code != 0:
            raise SinkFault(Blame.REFUSED, f"exit code {code}" if code > 0 else f"ended by signal {-code}")

    def test(self, message: Message) -> str:
        """Run the program with a sample. Raises `SinkFault`."""
        self.send(message)
        return "the program ended with exit code 0"

    def cancel(self) -> None:
        """Kill the program, from another thread. Its record is sent again later."""
        if (running := self._running) is not None:
            _kill(running)

    def close(self) -> None:
        """Nothing is kept open."""

    def _run(self, body: bytes) -> int:
        try:
            process = subprocess.Popen(  # noqa: S603 - the owner's own program, no shell
                self._arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder if self._folder.is_dir() else None,
                start_new_session=True,
            )
        except OSError as error:
            raise SinkFault(
                Blame.MISCONFIGURED, f"the program cannot be started: {error.strerror}: check its path and its mode"
            ) from None
        self._running = process
        try:
            process.communicate(body, timeout=self._timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.wait()
            raise SinkFault(Blame.REFUSED, f"not finished within {self._timeout:g} s: raise its timeout") from None
        finally:
            self._running = None
        return process.returncode


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
