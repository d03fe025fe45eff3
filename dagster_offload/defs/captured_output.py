"""Dagster's capture of a step's output, for steps that run in a command in a terminal.

Dagster copies the output to the terminal with `tail` processes, and a Python process beside each ends the `tail` if the
step's process dies. Ctrl-C goes to all processes of a terminal, so these printed tracebacks. `dagster.yaml` names the class,
as Dagster documents for log managers of your own.
"""

import signal
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from dagster._core.storage.compute_log_manager import CapturedLogContext
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager


class CapturedOutput(LocalComputeLogManager):
    """Stores stdout and stderr of each step in files. Ctrl-C does not reach the processes that copy them to the terminal.

    Dagster ends these processes with SIGTERM at the end of the step. If the step's process dies before, they end
    themselves within about a second.
    """

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        """Build the log manager from its part of `dagster.yaml`."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Generator[CapturedLogContext, None, None]:
        """Capture the output of this process in the block."""
        with ExitStack() as stack:
            with _new_processes_without_sigint():
                captured = stack.enter_context(super().capture_logs(log_key))
            yield captured


@contextmanager
def _new_processes_without_sigint() -> Iterator[None]:
    """Processes that this thread starts in the block inherit a blocked SIGINT. One that arrives meanwhile is not lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
