"""Looks for dead runs (`sweep.py`) every hour while `up` runs, and after the clock was set back.

A run of a command in a terminal is no child of `up`. If its process is killed, no other process ends the run, and it would keep
its place in Dagster's queue.
"""

import subprocess
import time
from collections.abc import Callable

EVERY_SECONDS = 3600.0
SET_BACK_SECONDS = 60.0
AFTER_SET_BACK_SECONDS = 30.0  # a tick that runs meanwhile stores its time of before when it ends


class RepeatedSweep:
    """Starts a process that sweeps, never two at once. `start` may raise `OSError`."""

    def __init__(
        self,
        start: Callable[[], subprocess.Popen[bytes]],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._start = start
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._due_at = monotonic() + EVERY_SECONDS
        self._ahead = wall_clock() - monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def check(self) -> None:
        """Start a sweep if one is due. Call this often."""
        now = self._monotonic()
        ahead = self._wall_clock() - now
        if ahead < self._ahead - SET_BACK_SECONDS:
            self._due_at = min(self._due_at, now + AFTER_SET_BACK_SECONDS)
        self._ahead = ahead
        if now < self._due_at or (self._process is not None and self._process.poll() is None):
            return
        self._due_at = now + EVERY_SECONDS
        try:
            self._process = self._start()
        except OSError:  # out of processes or memory: usually temporary
            self._due_at = now + AFTER_SET_BACK_SECONDS
