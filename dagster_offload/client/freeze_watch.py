"""A vigil beside long calls: notices a slot whose process is frozen, which TCP never tells.

A vanished host ends its calls by TCP keep-alive and TCP_USER_TIMEOUT (transport.py). A frozen process keeps its
connections: three fresh probes in a row without any answer, over 45 s, end the calls that are open.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from dagster_offload import timing
from dagster_offload.client.probe import probe
from dagster_offload.errors import SlotFrozen
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.health import ProbeResult

T = TypeVar("T")

SILENT_PROBES = 3


class FreezeWatch:
    """Watches one worker's open calls at a slot; use it as a context manager around them.

    Armed only once a probe beside a call was answered: some servers answer none while they generate. A red answer is
    an answer.
    """

    def __init__(
        self,
        slot: SlotConfig,
        ask: Callable[[SlotConfig], Awaitable[ProbeResult]] = probe,
        every_seconds: float | None = None,
    ) -> None:
        self.slot = slot
        self._ask = ask
        self._every_seconds = timing.current().watch_every if every_seconds is None else every_seconds
        self._open: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._is_armed = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "FreezeWatch":
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    async def beside(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call under watch. Raises `SlotFrozen` where the vigil ended it."""
        task = asyncio.create_task(call)
        self._open.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if task in self._ended:
                seconds = SILENT_PROBES * self._every_seconds
                raise SlotFrozen(
                    f"no answer to {SILENT_PROBES} probes over {seconds:g} s beside an open call"
                ) from None
            task.cancel()
            raise
        finally:
            self._open.discard(task)
            self._ended.discard(task)

    async def _watch(self) -> None:
        silent, was_asked = 0, False
        while True:
            await asyncio.sleep(
                self._every_seconds if was_asked else min(self._every_seconds, timing.current().watch_first)
            )
            watched = set(self._open)
            if not watched:
                silent = 0
                continue
            was_asked = True
            result = await self._ask(self.slot)
            silent = 0 if result.answered else silent + 1
            self._is_armed = self._is_armed or result.answered
            if self._is_armed and silent >= SILENT_PROBES:
                for task in watched & self._open:
                    self._ended.add(task)
                    task.cancel()
                silent = 0
