"""What every worker of the engine sets up: the client, the threads for the ledger, and an event loop that signals stop.

A signal handler may raise (Ctrl-C does, and Dagster's inside a step). Raised in a callback of an event loop, such an
exception ends in the loop's log and the work goes on. So here a signal only cancels, and is raised again once the loop
has ended.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, TypeVar

from dagster_offload.client.ai_client import AIClient
from dagster_offload.engine.document import DocumentRunner
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import dialects
from dagster_offload.settings import Settings
from dagster_offload.slot.config import Slots
from dagster_offload.stages.catalog import llm_stages, recipes

T = TypeVar("T")


@asynccontextmanager
async def open_client(slots: Slots, ledger: AsyncLedger) -> AsyncIterator[AIClient]:
    """A client for the block. What it found out is written down where the block ends well."""
    configured = [slot for slot in (slots.deep, slots.primary) if slot is not None]
    known = {slot.name: await ledger.run(dialects.recall, slot) for slot in configured}
    async with AIClient(slots, known) as client:
        yield client
        for slot in configured:
            findings = client.dialects_of(slot).findings
            if findings != known[slot.name]:
                await ledger.run(dialects.remember, slot, findings)


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


LEDGER_THREADS = 4


# How long a thread that computes (telling Dagster, say) may keep the interpreter from the event loop: Python's own 5 ms
# are as long as all else that passes between an answer and the next call.
SWITCH_SECONDS = 0.0001


def document_runner(settings: Settings, ledger: AsyncLedger, client: AIClient, worker: Worker) -> DocumentRunner:
    return DocumentRunner(settings, ledger, client, worker, llm_stages(settings), recipes(settings))


@contextmanager
def ledger_executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the ledger beside an event loop that comes first."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix="ledger") as pool:
            yield pool
    finally:
        sys.setswitchinterval(before)
