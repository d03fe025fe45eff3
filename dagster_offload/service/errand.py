"""A step of `up` that may wait for Postgres for a minute: it runs in a thread, so that the loop of `up` goes on meanwhile."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Generic, TypeVar

from dagster_offload.host.threads import start_in_daemon_thread

EVERY_SECONDS = 2.0

T = TypeVar("T")


class Errand(Generic[T]):
    """Repeats a step, at most every `every` seconds and never twice at the same time."""

    def __init__(self, step: Callable[[], T], every: float = EVERY_SECONDS) -> None:
        self._step = step
        self._every = every
        self._running: Future[T] | None = None
        self.due_at = -math.inf  # when the step may start again, by the monotonic clock

    def check(self) -> T | None:
        """Start the step if it is due. Returns what it returned, once; None before. Raises what it raised. Call this often."""
        if self._running is not None:
            if not self._running.done():
                return None
            ended, self._running = self._running, None
            return ended.result()  # the caller uses it before the next step reads anything
        if (now := time.monotonic()) >= self.due_at:
            self.due_at = now + self._every
            self._running = start_in_daemon_thread(self._step)
        return None

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the step that runs has ended, at most this long."""
        if self._running is not None:
            wait_for([self._running], seconds)
