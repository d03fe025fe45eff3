"""Lanes: how one worker works documents off at a slot, several side by side.

There are as many as the slot is wide and documents are due, and more are opened where it widens or more come due; the
permits, not the lanes, keep the bound. Nothing new is started once the slot is away, the limit is reached or the worker
was given up; open calls finish. What one lane does is in `engine/lane.py`.
"""

import asyncio
import contextlib
from typing import Any

from dagster_offload import timing
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.client.prompt_cache import ask_prompt_cache_size
from dagster_offload.engine.breaker import registered
from dagster_offload.engine.document import DocumentRunner
from dagster_offload.engine.lane import Lane, Scope, Shared, set_within
from dagster_offload.engine.progress import Progress, ProgressCounts
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import concurrency, slots
from dagster_offload.ledger.work import claims
from dagster_offload.slot.config import MAX_CONCURRENCY, SlotConfig


class Lanes:
    """One worker's lanes over one scope."""

    def __init__(self, runner: DocumentRunner, scope: Scope, on_progress: Progress | None = None) -> None:
        self._walker, self._scope = runner, scope
        self._shared = Shared(runner, scope, on_progress)
        self._width_news = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def counts(self) -> ProgressCounts:
        return self._shared.counts

    async def work_at(self, slot: SlotConfig) -> None:
        """Work off the scope's LLM stages at a slot until nothing is due, or nothing new may be started."""
        self._listen()
        row = await registered(self._walker.ledger, slot)
        self._walker.on_busy = self._width_news.set if row.is_auto else self.narrow
        self._walker.on_part = self._shared.read_part
        stages, documents = self._scope.stages, self._scope.documents
        most = self._capped(await self._walker.ledger.run(claims.count_due, stages, documents, slot=slot.name))
        self.counts.total += most
        async with FreezeWatch(slot) as freeze_watch:
            if most:
                await self._side_by_side(freeze_watch)
            # Documents that must run alone come last, so that the others are done first and never held up by them.
            await Lane(self._shared, freeze_watch, alone=True).work()

    def _capped(self, documents: int) -> int:
        return documents if self._scope.limit is None else min(documents, self._scope.limit)

    def narrow(self) -> None:
        """A 429 at a fixed N: one lane fewer for the rest of this work, never none."""
        self._shared.most = max(min(self._shared.most, len(self._shared.open)) - 1, 1)

    async def _side_by_side(self, freeze_watch: FreezeWatch) -> None:
        """Lanes beside one another: one at once, so that nothing waits for an answer about places, then as many as the
        slot is wide and have work. Ends with the last; the first error ends them all, and is raised as it is."""
        self._shared.most = MAX_CONCURRENCY
        try:
            async with asyncio.TaskGroup() as group:
                self._open_lane(group, freeze_watch)
                self._keeper = group.create_task(self._keep_width(group, freeze_watch))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _keep_width(self, group: asyncio.TaskGroup, freeze_watch: FreezeWatch) -> None:
        """Open lanes as the slot's width and the work allow, and find that width where it is found by trying."""
        slot, ledger, loop = freeze_watch.slot, self._walker.ledger, asyncio.get_running_loop()
        await self._learn_places(slot)
        reached, look_at = 0, loop.time()
        while True:
            self._width_news.clear()
            row = await ledger.run(concurrency.steer, slot.name, slot.max_call_seconds)
            # Work that nobody may claim yet would else be tried again with every permit that lanes bring back.
            if row.concurrency > reached or loop.time() >= look_at:
                reached, look_at = row.concurrency, loop.time() + timing.current().look_again
                for _ in range(await self._count_missing(row)):
                    self._open_lane(group, freeze_watch)
            waits = timing.current()
            await set_within(self._width_news, waits.steer if row.is_auto else waits.look_again)

    async def _count_missing(self, row: SlotRow) -> int:
        """Lanes the slot has room for and the scope has work for, beside those that are open."""
        started, shared = self.counts.started, self._shared
        room = self._capped(started + min(row.concurrency, shared.most) - len(shared.open)) - started
        if room <= 0 or row.breaker is not BreakerState.CLOSED or self._walker.worker.is_lost:
            return 0
        stages, documents = self._scope.stages, self._scope.documents
        return await self._walker.ledger.run(claims.due_beside, stages, documents, slot=row.name, at_most=room)

    def _open_lane(self, group: asyncio.TaskGroup, freeze_watch: FreezeWatch) -> None:
        lane = group.create_task(Lane(self._shared, freeze_watch).work())
        self._shared.open.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[Any]) -> None:
        self._shared.open.discard(lane)
        if not self._shared.open and self._keeper is not None:
            self._keeper.cancel()

    async def _learn_places(self, slot: SlotConfig) -> None:
        """Ask the server how many documents it keeps, where more than one may be in flight and nobody has said so."""
        row = await registered(self._walker.ledger, slot)
        if row.places_from == "person" or (row.permits == 1 and not row.is_auto):
            return
        word = await ask_prompt_cache_size(slot)
        if word.answered:
            await self._walker.ledger.run(slots.learn_places, slot.name, word.places)

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def hear(message: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody works here any more
                loop.call_soon_threadsafe(self._heard, message)

        self._walker.worker.on_notify(hear)

    def _heard(self, message: str) -> None:
        self._shared.changes += message != "freed"
        self._shared.news.set()
        self._width_news.set()
