"""Runs the lanes of one worker: several documents at a time at one slot.

There are as many lanes as the slot's concurrency and the due documents allow. More are opened when either grows. The
ledger's permits, not the lanes, limit the concurrency. No document is started once the slot is unavailable, the limit is
reached or the worker is lost; open calls finish. `engine/lanes/lane.py` has what one lane does.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from dagster_offload import timing
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.client.prompt_cache import ask_prompt_cache_size
from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.engine.lanes.lane import Lane
from dagster_offload.engine.lanes.shared import Scope, Shared, wait_until_set
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.slot.breaker import present
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.pipelines import PIPELINE_MESSAGE, pipeline_message
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.core.workers import FREED_MESSAGE, STARTED_MESSAGE
from dagster_offload.ledger.reports.activity import FAILED_SCAN_MESSAGE
from dagster_offload.ledger.sinks.notifications import CHANNEL_MESSAGE
from dagster_offload.ledger.sinks.sinks import SINK_MESSAGE
from dagster_offload.ledger.slots import availability, concurrency, holds, rests, slots
from dagster_offload.ledger.slots.availability import AVAILABILITY_MESSAGE
from dagster_offload.ledger.slots.holds import Hold
from dagster_offload.ledger.work import claims
from dagster_offload.slot.config import MAX_CONCURRENCY, SlotConfig
from dagster_offload.slot.reserve import Preferred, all_preferred, stages_left, without_held
from dagster_offload.slot.rest import Rest

# Notifications about what no lane depends on. A sink may send one for each record.
_OF_NO_LANE = (STARTED_MESSAGE, SINK_MESSAGE, CHANNEL_MESSAGE, AVAILABILITY_MESSAGE, FAILED_SCAN_MESSAGE)


class Lanes:
    """One worker's lanes at one slot. `totals` is shared with the lanes at other slots."""

    def __init__(
        self,
        runner: DocumentRunner,
        slot: SlotConfig,
        preferred: Preferred,
        totals: Totals,
        documents: Sequence[str] | None = None,
    ) -> None:
        """`preferred`: by stage that the slot may answer, the slots that take it first. `documents`: None = all that are due."""
        self.slot, self.scope = slot, Scope(list(preferred), documents)
        self._runner, self._totals = runner, totals
        self._preferred = preferred
        self._shared = Shared(runner, self.scope, totals)
        self._steer_now, self._look_now = asyncio.Event(), asyncio.Event()
        self._opener: asyncio.Task[None] | None = None
        self._is_listening = False

    async def work(self) -> None:
        """Work through the scope's LLM stages at the slot until nothing is due, or no document may be started.

        Raises `SlotForgotten` after the open calls have ended. Another error cancels all lanes and is raised unwrapped.
        """
        if not await self.look():
            return
        slot, self._shared.has_waited = self.slot, False
        row = await present(self._runner.ledger, slot)
        self._runner.drop_lane[slot.name] = (lambda: False) if row.is_auto else self.drop_lane
        self._runner.steer[slot.name] = self._steer_now.set
        stages, documents = self.scope.stages, self.scope.documents
        due = await self._runner.ledger.run(claims.count_due, stages, documents, slot=slot.name)
        self._totals.note_due(due)
        try:
            async with asyncio.TaskGroup() as group, FreezeWatch(slot) as freeze_watch:
                watch = group.create_task(self._watch())
                if due:
                    await self._run_lanes(freeze_watch)
                # Documents that must run alone come last, so that they do not delay the others.
                while await self._run_alone(freeze_watch):
                    await self._run_lanes(freeze_watch)
                watch.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        if self._shared.is_forgotten:
            raise slots.forgotten(slot.name)

    async def is_any_left(self) -> bool:
        """Whether any document of the scope is due at the slot, or deferred."""
        scope = self.scope
        return await self._runner.ledger.run(claims.is_any_left, scope.stages, scope.documents, self.slot.name)

    async def can_work_now(self) -> bool:
        """Whether the slot is available and any document of the scope is left for it."""
        return await self.is_available() and await self.look() and await self.is_any_left()

    async def is_available(self) -> bool:
        """Whether work may be sent to the slot, as far as the ledger knows."""
        return bool(await self._runner.ledger.run(availability.available, [self.slot]))

    async def look(self) -> bool:
        """Whether the slot takes work now. Reads whether it rests, which stages it holds, and which ones preferred slots leave
        to it."""
        self._look_now.clear()
        run = self._runner.ledger.run
        held = holds.by_slot(await run(holds.list_holds))
        preferred = without_held(self.slot.name, self._preferred, held)
        others = all_preferred(preferred)
        self.scope.stages = stages_left(preferred, await run(availability.available, others) if others else ())
        return await self.read_rest() is None and bool(self.scope.stages)

    async def holds_with_work(self) -> list[Hold]:
        """The stages that the slot holds and that documents of the scope wait for."""
        run, name, documents = self._runner.ledger.run, self.slot.name, self.scope.documents
        found = [hold for hold in await run(holds.list_holds) if hold.slot == name and hold.stage in self._preferred]
        return [hold for hold in found if await run(claims.is_any_left, [hold.stage], documents, name)]

    async def read_rest(self) -> Rest | None:
        """Why the slot rests now; None if it does not."""
        self._shared.rest = await self._runner.ledger.run(rests.read_rest, self.slot)
        return self._shared.rest

    async def _watch(self) -> None:
        """End the lanes when the slot begins to rest, or when no stage is left to it.

        Looks after notifications, and at intervals: the clock and the calls decide, too, and a notification may be lost. A
        failure to read is left to the lanes, which use the same ledger.
        """
        while True:
            await wait_until_set(self._look_now, timing.current().recheck)
            with contextlib.suppress(LedgerUnavailable):
                if not await self.look():
                    self._shared.notified.set()  # for lanes that wait for a permit

    @property
    def rest(self) -> Rest | None:
        """Why the slot rested when it was last looked at; None if it did not."""
        return self._shared.rest

    @property
    def ended(self) -> int:
        """How many documents' work ended here, however it ended."""
        return self._shared.ended

    @property
    def has_waited(self) -> bool:
        """Whether a lane has waited for a permit since the work began."""
        return self._shared.has_waited

    @property
    def is_superseded(self) -> bool:
        """Whether the lanes ended because the running `up` took over another pipeline."""
        return self._shared.is_superseded

    def drop_lane(self) -> bool:
        """Use one lane fewer, but at least one. Called by a lane on a 429 where the concurrency is fixed. Whether this lane has
        to end: it would hold its document, and be refused again."""
        shared = self._shared
        working = len(shared.lanes) - shared.waiting
        shared.max_lanes = max(min(shared.max_lanes, working) - 1, 1)
        shared.reduced_at = asyncio.get_running_loop().time()
        shared.notified.set()  # the lanes that wait for a permit end first: with that of this lane, they would be refused, too
        return working > shared.max_lanes and shared.must_leave()

    def _allow_a_lane_again(self) -> None:
        """Allow one more lane if there was no 429 for some time: whoever used the server may have left."""
        shared, now = self._shared, asyncio.get_running_loop().time()
        if shared.max_lanes < MAX_CONCURRENCY and now >= shared.reduced_at + timing.current().lane_back:
            shared.max_lanes += 1
            shared.reduced_at = now

    async def _run_alone(self, freeze_watch: FreezeWatch) -> bool:
        """Work on the documents that must run alone. Returns whether a long one of them made way for others."""
        lane = Lane(self._shared, freeze_watch, alone=True)
        await lane.work()
        return lane.has_made_way

    async def _run_lanes(self, freeze_watch: FreezeWatch) -> None:
        """Run lanes until the last one ends. The first starts at once, without waiting for the prompt cache size.

        The first error cancels all lanes and is raised unwrapped.
        """
        shared = self._shared
        shared.max_lanes = MAX_CONCURRENCY
        while True:
            shared.is_reduced = False
            try:
                async with asyncio.TaskGroup() as group:
                    self._open_lane(group, freeze_watch)
                    self._opener = group.create_task(self._open_lanes(group, freeze_watch))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from errors
            # The last lane may have found nothing just before the one that ended made more work due.
            if not (shared.is_reduced and shared.may_start()):
                return

    async def _open_lanes(self, group: asyncio.TaskGroup, freeze_watch: FreezeWatch) -> None:
        """Open lanes as the slot's concurrency and the work allow. Steers the concurrency if it is automatic."""
        slot, ledger, loop = freeze_watch.slot, self._runner.ledger, asyncio.get_running_loop()
        with self._shared.ending_if_forgotten():
            await self._learn_prompt_cache_size(slot)
            highest, check_at = 0, loop.time()
            while True:
                self._steer_now.clear()
                row = await ledger.run(concurrency.steer, slot.name, slot.max_call_seconds)
                # Only on a rise or at intervals: counting due work after every released permit would find the same work,
                # which may not be claimable yet.
                if row.concurrency > highest or loop.time() >= check_at:
                    self._allow_a_lane_again()
                    highest, check_at = row.concurrency, loop.time() + timing.current().recheck
                    for _ in range(await self._count_missing(row)):
                        self._open_lane(group, freeze_watch)
                waits = timing.current()
                await wait_until_set(self._steer_now, waits.steer if row.is_auto else waits.recheck)

    async def _count_missing(self, row: SlotRow) -> int:
        """How many more lanes the slot has room for and the scope has work for."""
        started, shared = self._totals.counts.started, self._shared
        room = self._totals.within_limit(started + min(row.concurrency, shared.max_lanes) - len(shared.lanes)) - started
        if room <= 0 or row.breaker is not BreakerState.CLOSED or shared.must_end:
            return 0
        stages, documents = self.scope.stages, self.scope.documents
        return await self._runner.ledger.run(claims.due_beside, stages, documents, slot=row.name, at_most=room)

    def _open_lane(self, group: asyncio.TaskGroup, freeze_watch: FreezeWatch) -> None:
        lane = group.create_task(Lane(self._shared, freeze_watch).work())
        self._shared.lanes.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[Any]) -> None:
        self._shared.lanes.discard(lane)
        if not self._shared.lanes and self._opener is not None:
            self._opener.cancel()

    async def _learn_prompt_cache_size(self, slot: SlotConfig) -> None:
        """Query the server for its prompt cache size, if more than one call may be open and no person has set it."""
        row = await present(self._runner.ledger, slot)
        if row.prompt_cache_size_from == "person" or (row.permits == 1 and not row.is_auto):
            return
        size = await ask_prompt_cache_size(slot)
        if size.answered:
            await self._runner.ledger.run(slots.learn_prompt_cache_size, slot.name, size.prompt_cache_size)

    def listen(self) -> None:
        """React to the ledger's notifications from now on."""
        if self._is_listening:
            return
        self._is_listening, loop = True, asyncio.get_running_loop()

        def on_notify(message: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and no lane runs
                loop.call_soon_threadsafe(self._notified, message)

        self._runner.worker.on_notify(on_notify)

    def _notified(self, message: str) -> None:
        if message.startswith(_OF_NO_LANE):
            return
        if message.startswith((rests.PAUSE_MESSAGE, slots.BREAKER_MESSAGE)):
            self._look_now.set()
        if message.startswith(PIPELINE_MESSAGE):
            self._shared.is_superseded = message != pipeline_message(self._runner.pipeline)
        self._shared.changes += message != FREED_MESSAGE
        self._shared.notified.set()
        self._steer_now.set()
