"""What every worker of the engine sets up: the client, the threads for the ledger, and an event loop that signals stop.

A signal handler may raise: Ctrl-C does, and so does Dagster's handler inside a step. An exception raised in a callback of
an event loop only reaches the loop's log, and the work continues. So here a signal only cancels the work, and is raised
again after the loop has ended.
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

import uvloop

from dagster_offload.client.ai_client import AIClient
from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import dialects
from dagster_offload.settings import Settings
from dagster_offload.slot.config import Slots
from dagster_offload.stages.catalog import llm_stages, stage_graph
from dagster_offload.stages.pipeline import pipeline_of

T = TypeVar("T")


@asynccontextmanager
async def open_client(slots: Slots, ledger: AsyncLedger) -> AsyncIterator[AIClient]:
    """A client for the block. Its findings about the slots are stored if the block ends without an error."""
    known = {slot.name: await ledger.run(dialects.recall, slot) for slot in slots}
    async with AIClient(slots, known) as client:
        yield client
        for slot in slots:
            findings = client.dialects_of(slot).findings
            if findings != known[slot.name]:
                await ledger.run(dialects.remember, slot, findings)


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_stoppable(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on uvloop's event loop, cancelled by SIGINT, SIGTERM and SIGHUP if the process handles them.

    After the work has ended, raises what their handlers raise, or `KeyboardInterrupt` if they raise nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return _run(work)  # only the main thread handles signals
    stop = _Stop()
    try:
        with stop.instead_of_handlers():
            return _run(stop.end_early(work))
    finally:
        if stop.signum is not None:
            signal.raise_signal(stop.signum)
            raise KeyboardInterrupt


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


class _Stop:
    def __init__(self) -> None:
        self.signum: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    @contextmanager
    def instead_of_handlers(self) -> Iterator[None]:
        # Ignored signals stay ignored, and a signal that ends the process at once still does.
        before = {signum: handler for signum in STOPS if callable(handler := signal.getsignal(signum))}
        for signum in before:
            signal.signal(signum, self._on_signal)
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    async def end_early(self, work: Coroutine[Any, Any, T]) -> T:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self.signum is not None:  # the signal came before the loop existed
            work.close()
            raise asyncio.CancelledError
        return await work

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        if self._loop is not None and self._task is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)


LEDGER_THREADS = 4


# How long a computing thread (one that reports to Dagster, for example) may keep the interpreter from the event loop.
# Python's default of 5 ms would double the time between an answer and the next call.
SWITCH_SECONDS = 0.0001


def document_runner(settings: Settings, ledger: AsyncLedger, client: AIClient, worker: Worker) -> DocumentRunner:
    """A runner with the stages and the pipeline of the settings."""
    return DocumentRunner(
        settings, ledger, client, worker, stage_graph(settings), llm_stages(settings), pipeline_of(settings)
    )


@contextmanager
def ledger_executor(ledger: Ledger) -> Iterator[ThreadPoolExecutor]:
    """Threads for the ledger. While they exist, threads yield to the event loop sooner, and answers in hand are kept."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        # `keeping_answers` ends first, because the pool waits for its threads.
        with ThreadPoolExecutor(LEDGER_THREADS, thread_name_prefix="ledger") as pool, ledger.keeping_answers():
            yield pool
    finally:
        sys.setswitchinterval(before)
