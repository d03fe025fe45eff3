"""A program as a sink or channel: it reads one record or message as JSON on its standard input. Exit code 0: it has taken it.

Exit code 75 (EX_TEMPFAIL) means: not now. Every other code is a refusal. Its output is not kept, because it may
quote the document.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from dagster_offload.host.programs import WatchedProgram
from dagster_offload.sinks.faults import Blame, SinkFault
from dagster_offload.sinks.message import Message, Sendable

TEMPORARY = 75


class Command:
    """Runs a program for each record, without a shell. Its process group is killed at the time limit."""

    def __init__(self, arguments: Sequence[str], timeout: float, folder: Path) -> None:
        """`folder`: the working folder of the program."""
        self._name = arguments[0]
        self._program = WatchedProgram(arguments, timeout, folder)
        self._timeout = timeout

    def send(self, message: Sendable) -> None:
        """Run the program with this record, as one line. Raises `SinkFault`."""
        code = self._run(message.body + b"\n")
        if code == TEMPORARY:
            raise SinkFault(Blame.UNAVAILABLE, f"exit code {TEMPORARY}: not now", may_be_of_record=True)
        if code != 0:
            raise SinkFault(Blame.REFUSED, f"exit code {code}" if code > 0 else f"ended by signal {-code}")

    def test(self, message: Message) -> str:
        """Run the program with a sample. Raises `SinkFault`."""
        self.send(message)
        return "the program ended with exit code 0"

    def cancel(self) -> None:
        """Kill the program, from another thread, and start none again. Its record is sent again later."""
        self._program.kill()

    def _run(self, body: bytes) -> int:
        try:
            return self._program.run(body)
        except OSError as error:
            why = f"{self._name} cannot be started: {error.strerror}: check its path and its mode"
            raise SinkFault(Blame.MISCONFIGURED, why) from None
        except subprocess.TimeoutExpired:
            raise SinkFault(Blame.REFUSED, f"not finished within {self._timeout:g} s: raise its timeout") from None
