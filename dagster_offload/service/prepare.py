"""The process that prepares Dagster's instance and ends dead runs (`sweep.py`), as `up` starts, reads and ends it."""

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.host import watchdog
from dagster_offload.host.python_process import python_environment
from dagster_offload.service.prefork import prefork_command
from dagster_offload.service.say import Say
from dagster_offload.service.supervisor import StopRequest
from dagster_offload.text.lines import last_line

CHECK_EVERY_SECONDS = 0.05
PROGRAM = "from dagster_offload.service.sweep import main; main()"


class Preparation:
    """The running process. `say` gets a line for each run that it ended, and for each sensor."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str], say: Say) -> None:
        self._process = process
        self._errors = errors
        self._say = say
        self._home: Path | None = None
        self._reader = threading.Thread(target=self._read, name="prepare", daemon=True)
        self._reader.start()

    def dagster_home(self, stop: StopRequest) -> Path | None:
        """Wait for the folder for DAGSTER_HOME. None if a stop is requested first. Raises `LedgerUnavailable`."""
        while self._home is None and self._reader.is_alive():
            if stop.wait(CHECK_EVERY_SECONDS):
                return None
        if self._home is None:
            self._raise_failure()
        return self._home

    def has_ended(self, stop: StopRequest) -> bool:
        """Wait until the dead runs are ended. False if a stop is requested first. Raises `LedgerUnavailable`."""
        while self._reader.is_alive():
            if stop.wait(CHECK_EVERY_SECONDS):
                return False
        self._raise_failure()
        return True

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if self._home is None:
                self._home = Path(line.strip())
            else:
                self._say(line.strip())

    def _raise_failure(self) -> None:
        if self._process.wait() != 0:
            self._errors.seek(0)
            raise LedgerUnavailable(f"cannot prepare Dagster's instance: {last_line(self._errors.read())}")


@contextlib.contextmanager
def preparing(forks: Path, say: Say) -> Iterator[Preparation]:
    """Prepare Dagster's instance during the block, in a process that imports Dagster: this one runs for weeks without it.

    The process is a copy from the prefork server behind `forks`, if one answers there. Leaving kills it if it still runs.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(  # noqa: S603 - our own command
            prefork_command(forks, PROGRAM),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=python_environment(),
            process_group=0,  # Ctrl-C in the terminal reaches `up` alone, which ends it
        ) as process,
        watchdog.watching(process.pid),
    ):
        try:
            yield Preparation(process, errors, say)
        finally:
            process.kill()  # what stands in for a copy ignores SIGTERM; the prefork server kills the copy when it is gone
