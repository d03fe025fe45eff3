"""A watch during long calls that detects a slot whose process is frozen, which TCP cannot detect.

TCP keep-alive and TCP_USER_TIMEOUT end the calls to a vanished host (transport.py). A frozen process keeps its
connections. Three probes in a row on new connections without any answer, over 45 s, end the open calls.
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
    """Watches one worker's open calls to a slot. Use it as a context manager around them.

    It ends calls only after the slot has answered a probe during a call: some servers answer no probe while they
    generate. An unhealthy answer counts as an answer.
    """

    def __init__(
        self,
        slot: SlotConfig,
        send_probe: Callable[[SlotConfig], Awaitable[ProbeResult]] = probe,
        every_seconds: float | None = None,
    ) -> None:
        self.slot = slot
        self._send_probe = send_probe
        self._every_seconds = timing.current().watch_every if every_seconds is None else every_seconds
        # By call, because a task makes one call after the other.
        self._open: dict[object, asyncio.Task[Any]] = {}
        self._ended: set[object] = set()
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
        """Await a call under watch. Raises `SlotFrozen` if the watch ended it.

        The call is a part of the caller's task: a task of its own would cost each call another turn of the event loop. As in
        `asyncio.timeout`, the watch takes its cancellation back, and one from elsewhere goes before it.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task
        call_id, cancelled_before = object(), task.cancelling()
        self._open[call_id] = task
        try:
            return await call
        except asyncio.CancelledError:
            if call_id in self._ended and task.cancelling() == cancelled_before + 1:
                seconds = SILENT_PROBES * self._every_seconds
                raise SlotFrozen(
                    f"no answer to {SILENT_PROBES} probes over {seconds:g} s during an open call"
                ) from None
            raise
        finally:
            del self._open[call_id]
            if call_id in self._ended:
                self._ended.discard(call_id)
                task.uncancel()

    async def _watch(self) -> None:
        silent, has_probed = 0, False
        watched: set[object] = set()  # the calls that were open during all silent probes
        while True:
            await asyncio.sleep(
                self._every_seconds if has_probed else min(self._every_seconds, timing.current().watch_first)
            )
            watched &= self._open.keys()
            if not watched:
                silent, watched = 0, set(self._open)
            if not watched:
                continue
            has_probed = True
            during = set(self._open)
            result = await self._send_probe(self.slot)
            if result.answered:
                silent = 0
                watched.clear()
            else:
                silent += 1
            # A server that answers no probe while it generates may answer this one after the call.
            self._is_armed = self._is_armed or (result.answered and during <= self._open.keys())
            if self._is_armed and silent >= SILENT_PROBES:
                for call_id in watched & self._open.keys():
                    self._ended.add(call_id)
                    self._open[call_id].cancel()
                watched.clear()
