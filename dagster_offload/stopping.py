"""An event loop that is stopped by signals, whatever it is doing when they come.

A signal's handler may raise (Ctrl-C does, and Dagster's inside a step). Raised in a callback of an event loop, such an
exception ends in the loop's log, and the work goes on. So here a signal only cancels, and is raised again once the loop
has ended.
"""

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

STOPS = (signal.SIGINT, signal.SIGTERM)


def run_stoppable(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, whose work is cancelled by SIGINT and SIGTERM where the process handles these.

    Raises what their handlers raise, after the work has ended; `KeyboardInterrupt` where they raise nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(work)  # signals are the main thread's
    stop = _Stop()
    try:
        with stop.instead_of_handlers():
            return asyncio.run(stop.end_early(work))
    finally:
        if stop.signum is not None:
            signal.raise_signal(stop.signum)
            raise KeyboardInterrupt


class _Stop:
    def __init__(self) -> None:
        self.signum: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def instead_of_handlers(self) -> Iterator[None]:
        # What is ignored stays ignored, and what ends the process at once still does.
        before = {signum: handler for signum in STOPS if callable(handler := signal.getsignal(signum))}
        for signum in before:
            signal.signal(signum, self._heard)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    async def end_early(self, work: Coroutine[Any, Any, T]) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self.signum is not None:  # it came before there was a loop
            work.close()
            raise asyncio.CancelledError
        return await work

    def _heard(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)
