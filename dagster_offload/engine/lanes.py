"""Lanes: how one worker works documents off at a slot. A lane holds one permit and walks one document at a time.

There are as many as the slot is wide and documents are due, and more are opened where it widens or more come due; the
permits, not the lanes, keep the bound. Nothing new is started once the slot is away, the limit is reached or the worker
was given up; open calls finish.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from dagster_offload import timing
from dagster_offload.client.freeze_watch import Vigil
from dagster_offload.client.prompt_cache import ask_places
from dagster_offload.engine.breaker import registered, try_closing
from dagster_offload.engine.commits import Batches
from dagster_offload.engine.document import Walker
from dagster_offload.engine.progress import PartsRead, Progress, Tally, WalkEnd
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import concurrency, permits, slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.groups import Taken, Want
from dagster_offload.slot.config import MAX_CONCURRENCY, SlotConfig


@dataclass
class Scope:
    """Which work: the stages, the documents (None = whatever is due), and how many documents at most."""

    stages: Sequence[str]
    documents: Sequence[str] | None = None
    limit: int | None = None


class Turn(Enum):
    """What a lane that asks for a permit is to do."""

    YOURS = auto()
    WAIT = auto()
    NO_WORK = auto()


@dataclass
class Lanes:
    """One worker's lanes over one scope."""

    walker: Walker
    scope: Scope
    on_progress: Progress | None = None
    tally: Tally = field(default_factory=Tally)
    _turns: Batches[tuple[str, bool], Turn] = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _changes: int = 0  # how often the ledger said something about slots or permits
    _width_news: asyncio.Event = field(default_factory=asyncio.Event)
    _keeper: asyncio.Task[None] | None = None
    _open: set[asyncio.Task[Any] | None] = field(default_factory=set)
    _most: int = MAX_CONCURRENCY  # lanes beside one another: fewer after a 429

    def __post_init__(self) -> None:
        self._turns = Batches(self._take_turns)

    async def work_at(self, slot: SlotConfig) -> None:
        """Work off the scope's LLM stages at a slot until nothing is due, or nothing new may be started."""
        self._listen()
        row = await registered(self.walker.ledger, slot)
        self.walker.on_busy = self._width_news.set if row.is_auto else self.narrow
        self.walker.on_part = self._read_part
        due = await self.walker.ledger.run(claims.count_due, self.scope.stages, self.scope.documents, slot=slot.name)
        most = self._capped(due)
        self.tally.total += most
        async with Vigil(slot) as vigil:
            if most:
                await self._side_by_side(vigil)
            # Documents that must run alone come last, so that the others are done first and never held up by them.
            await self._lane(vigil, alone=True)

    def _capped(self, documents: int) -> int:
        return documents if self.scope.limit is None else min(documents, self.scope.limit)

    def narrow(self) -> None:
        """A 429 at a fixed N: one lane fewer for the rest of this work, never none."""
        self._most = max(min(self._most, len(self._open)) - 1, 1)

    async def _side_by_side(self, vigil: Vigil) -> None:
        """Lanes beside one another: one at once, so that nothing waits for an answer about places, then as many as the
        slot is wide and have work. Ends with the last; the first error ends them all, and is raised as it is."""
        self._most = MAX_CONCURRENCY
        try:
            async with asyncio.TaskGroup() as group:
                self._open_lane(group, vigil)
                self._keeper = group.create_task(self._keep_width(group, vigil))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _keep_width(self, group: asyncio.TaskGroup, vigil: Vigil) -> None:
        """Open lanes as the slot's width and the work allow, and find that width where it is found by trying."""
        slot, ledger, loop = vigil.slot, self.walker.ledger, asyncio.get_running_loop()
        await self._learn_places(slot)
        reached, look_at = 0, loop.time()
        while True:
            self._width_news.clear()
            row = await ledger.run(concurrency.steer, slot.name, slot.max_call_seconds)
            # Work that nobody may claim yet would else be tried again with every permit that lanes bring back.
            if row.width > reached or loop.time() >= look_at:
                reached, look_at = row.width, loop.time() + timing.current().look_again
                for _ in range(await self._count_missing(row)):
                    self._open_lane(group, vigil)
            waits = timing.current()
            await _heard_within(self._width_news, waits.steer if row.is_auto else waits.look_again)

    async def _count_missing(self, row: SlotRow) -> int:
        """Lanes the slot has room for and the scope has work for, beside those that are open."""
        room = self._capped(self.tally.started + min(row.width, self._most) - len(self._open)) - self.tally.started
        if room <= 0 or row.breaker is not BreakerState.CLOSED or self.walker.worker.is_lost:
            return 0
        stages, documents = self.scope.stages, self.scope.documents
        return await self.walker.ledger.run(claims.due_beside, stages, documents, slot=row.name, at_most=room)

    def _open_lane(self, group: asyncio.TaskGroup, vigil: Vigil) -> None:
        lane = group.create_task(self._lane(vigil))
        self._open.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._open.discard(lane)
        if not self._open and self._keeper is not None:
            self._keeper.cancel()

    async def _learn_places(self, slot: SlotConfig) -> None:
        """Ask the server how many documents it keeps, where more than one may be in flight and nobody has said so."""
        row = await registered(self.walker.ledger, slot)
        if row.places_from == "person" or (row.permits == 1 and not row.is_auto):
            return
        word = await ask_places(slot)
        if word.answered:
            await self.walker.ledger.run(slots.learn_places, slot.name, word.places)

    async def _lane(self, vigil: Vigil, *, alone: bool = False) -> None:
        """Hold a permit while there is work; give it up to a person between two calls, and stand in line again."""
        slot = vigil.slot
        while (heard := await self._wait_for_permit(slot, alone=alone)) is not None:
            must_return = False
            try:
                must_return = await self._walk_while_permitted(vigil, heard, alone=alone)
            finally:
                if not must_return:  # else it was given to the person already
                    await self.walker.ledger.run(permits.release, slot.name, self.walker.worker.id)
            if not must_return:
                return

    async def _wait_for_permit(self, slot: SlotConfig, *, alone: bool) -> int | None:
        """Stand in line for a permit for as long as there is work this lane could do: what was heard before it was
        given; None where there is no work."""
        while self._may_start():
            self._news.clear()
            heard = self._changes
            turn = await self._turns.submit((slot.name, alone))
            if turn is Turn.NO_WORK:
                break
            if turn is Turn.YOURS:
                return heard
            await self._hear_news()
        await self.walker.ledger.run(permits.stop_waiting, slot.name, self.walker.worker.id)
        return None

    async def _take_turns(self, asking: Sequence[tuple[str, bool]]) -> list[Turn]:
        """Permits for the lanes that ask at the same moment: all at one slot, and one that is to be alone is alone."""
        (slot, alone), count = asking[0], len(asking)
        return await self.walker.ledger.run(self._acquire, slot, count, alone=alone)

    def _acquire(self, cur: Cursor, slot: str, count: int, *, alone: bool) -> list[Turn]:
        if not self._has_work(cur, slot, alone=alone):
            return [Turn.NO_WORK] * count
        worker = self.walker.worker
        given = permits.acquire(cur, slot, worker.id, is_person=worker.is_person, is_exclusive=alone, count=count)
        return [Turn.YOURS] * given + [Turn.WAIT] * (count - given)

    async def _walk_while_permitted(self, vigil: Vigil, heard: int, *, alone: bool) -> bool:
        """Documents one after the other; True where the permit was given up to somebody who waits.

        `heard`: before the permit was given. The next document is claimed in the transaction of the last one's result,
        where nothing speaks against going on.
        """
        slot = vigil.slot
        looked_at = heard  # which change we last acted upon: each lane has to, so no flag that one of them resets
        ahead: list[asyncio.Task[tuple[int, Taken]]] = []

        def claim_ahead() -> None:
            if not (alone or self._are_too_many()) and self._changes == looked_at and self._may_start():
                claiming = asyncio.create_task(self._next(slot, alone=False))
                # A lane that ends in an error or is stopped does not ask for it any more, and asyncio would complain.
                claiming.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
                ahead.append(claiming)

        while ahead or self._may_start():
            before, (row, claim) = await (ahead.pop() if ahead else self._next(slot, alone=alone))
            if claim is None:
                if await self._is_worth_another_look(slot, row):
                    continue
                return False
            if not claim.items:
                self._count(WalkEnd.DONE)
                continue
            with self.walker.commits.followed_by(claim, claim_ahead):
                self._count(await self.walker.ask_all(claim, vigil, self._epochs(slot, row.epoch, before)))
            if not alone and self._are_too_many():
                self._open.discard(asyncio.current_task())  # at once, so that no other lane ends for the same reason
                await self._give_back(ahead)
                return False
            if self._changes != looked_at:
                looked_at = self._changes
                if await self._gave_up_permit(slot):
                    await self._give_back(ahead)
                    return True
        return False

    def _are_too_many(self) -> bool:
        return len(self._open) > self._most

    def _next(self, slot: SlotConfig, *, alone: bool) -> Coroutine[Any, Any, tuple[int, Taken]]:
        """What was heard before a claim, the slot at the claim, and the claim if there was one."""
        # Counted before anything else runs: lanes that ask at the same time must not pass the limit together.
        self.tally.started += 1
        return self._claimed(slot, alone=alone)

    async def _claimed(self, slot: SlotConfig, *, alone: bool) -> tuple[int, Taken]:
        before, documents = self._changes, self.scope.documents
        want = Want(slot.name, tuple(self.scope.stages), None if documents is None else tuple(documents), alone)
        taken = await self.walker.commits.take(want)
        if taken[1] is None:
            self.tally.started -= 1
        return before, taken

    async def _give_back(self, ahead: "list[asyncio.Task[tuple[int, Taken]]]") -> None:
        """A document claimed ahead and not begun is anybody's again."""
        for task in ahead:
            _, (_, claim) = await task
            if claim is not None:
                self.tally.started -= 1
                reason = "not started: the slot was needed"
                await self.walker.ledger.run(claims.release, self.walker.worker.id, claim, reason)

    async def _epochs(self, slot: SlotConfig, first: int, looked_at: int) -> AsyncIterator[int]:
        """The slot's epoch for each call of a document; ends where nothing new may be started: the slot is away, a
        person waits for the permit, or the ledger gave this worker up."""
        epoch = first
        while not self.walker.worker.is_lost:
            yield epoch
            if self._changes != looked_at:
                looked_at = self._changes
                row = await registered(self.walker.ledger, slot)
                if row.breaker is not BreakerState.CLOSED or await self._is_permit_wanted(slot):
                    return
                epoch = row.epoch

    async def _is_permit_wanted(self, slot: SlotConfig) -> bool:
        worker = self.walker.worker
        return await self.walker.ledger.run(permits.is_wanted, slot.name, is_person=worker.is_person)

    async def _gave_up_permit(self, slot: SlotConfig) -> bool:
        """After a call: give the permit back where a person waits for it or N was lowered."""
        worker = self.walker.worker
        return await self.walker.ledger.run(permits.give_up_if_wanted, slot.name, worker.id, is_person=worker.is_person)

    async def _is_worth_another_look(self, slot: SlotConfig, row: SlotRow) -> bool:
        """Nothing to claim: because a fault that may be a document's is looked into, whose verdict is moments away?"""
        if row.is_trial_running:
            self._news.clear()
            await self._hear_news()
            return True
        if not row.is_retry_due:
            return False
        now = await try_closing(self.walker.ledger, self.walker.client, slot, self.walker.worker)
        return now.breaker is BreakerState.CLOSED

    def _has_work(self, cur: Cursor, slot: str, *, alone: bool) -> bool:
        row = slots.get(cur, slot)
        if row is None or row.breaker is BreakerState.MISCONFIGURED:
            return False
        if row.breaker is BreakerState.OPEN and not (row.is_trial_running or row.is_retry_due):
            return False
        return claims.has_due(cur, self.scope.stages, self.scope.documents, alone=alone, slot=slot)

    def _may_start(self) -> bool:
        is_full = self.scope.limit is not None and self.tally.started >= self.scope.limit
        return not (is_full or self.walker.worker.is_lost)

    def _count(self, end: WalkEnd) -> None:
        self.tally.count(end)
        if self.on_progress is not None:
            self.on_progress(self.tally)

    def _read_part(self, read: PartsRead) -> None:
        self.tally.reading = read
        if self.on_progress is not None:
            self.on_progress(self.tally)

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()

        def hear(message: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody works here any more
                loop.call_soon_threadsafe(self._heard, message)

        self.walker.worker.on_notify(hear)

    def _heard(self, message: str) -> None:
        self._changes += message != "freed"
        self._news.set()
        self._width_news.set()

    async def _hear_news(self) -> None:
        await _heard_within(self._news, timing.current().look_again)


async def _heard_within(news: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await news.wait()
