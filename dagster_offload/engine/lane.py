"""A lane: one task of a worker that holds one permit and works through one document at a time.

What the lanes of one worker share is `Shared`. The choice of what a lane does next is made by pure functions of what was
read: `may_ask`, `after_no_claim`. How many lanes there are is decided in `engine/lanes.py`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from dagster_offload import timing
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.engine.breaker import registered, try_closing
from dagster_offload.engine.commits import Batches
from dagster_offload.engine.document import DocumentRunner
from dagster_offload.engine.progress import DocumentEnd, PartsRead, Progress, ProgressCounts
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, SlotRow
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.groups import Taken, Want
from dagster_offload.slot.config import MAX_CONCURRENCY


@dataclass
class Scope:
    """Which work: the stages, the documents (None = whatever is due), and how many documents at most."""

    stages: Sequence[str]
    documents: Sequence[str] | None = None
    limit: int | None = None


class Turn(Enum):
    """What a lane that asked for a permit is to do."""

    YOURS = auto()
    WAIT = auto()
    NO_WORK = auto()


class Next(Enum):
    """What a lane does when there was nothing to claim."""

    WAIT = auto()  # a trial is running: its verdict is moments away
    TRY_CLOSING = auto()  # the breaker is open and a trial is due
    END = auto()


def may_ask(slot: SlotRow | None) -> bool:
    """Whether calls may be sent to a slot, now or after a trial that is running or due."""
    if slot is None or slot.breaker is BreakerState.MISCONFIGURED:
        return False
    return slot.breaker is BreakerState.CLOSED or slot.is_trial_running or slot.is_retry_due


def after_no_claim(slot: SlotRow) -> Next:
    if slot.is_trial_running:
        return Next.WAIT
    return Next.TRY_CLOSING if slot.is_retry_due else Next.END


@dataclass
class Shared:
    """What one worker's lanes share. Belongs to one event loop."""

    runner: DocumentRunner
    scope: Scope
    on_progress: Progress | None = None
    counts: ProgressCounts = field(default_factory=ProgressCounts)
    open: set[asyncio.Task[Any] | None] = field(default_factory=set)  # the lanes side by side
    most: int = MAX_CONCURRENCY  # of them: fewer after a 429
    changes: int = 0  # how many notifications about slots or permits have come
    news: asyncio.Event = field(default_factory=asyncio.Event)
    turns: Batches[tuple[str, bool], Turn] = field(init=False)

    def __post_init__(self) -> None:
        self.turns = Batches(self._take_turns)

    @property
    def are_too_many(self) -> bool:
        return len(self.open) > self.most

    def may_start(self) -> bool:
        is_full = self.scope.limit is not None and self.counts.started >= self.scope.limit
        return not (is_full or self.runner.worker.is_lost)

    def count(self, end: DocumentEnd) -> None:
        self.counts.count(end)
        self._show()

    def read_part(self, read: PartsRead) -> None:
        self.counts.reading = read
        self._show()

    def _show(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.counts)

    async def wait_for_news(self) -> None:
        await set_within(self.news, timing.current().look_again)

    async def _take_turns(self, asking: Sequence[tuple[str, bool]]) -> list[Turn]:
        """Permits for the lanes that ask at the same moment: all at one slot, and one that is to be alone is alone."""
        (slot, alone), count = asking[0], len(asking)
        return await self.runner.ledger.run(self._acquire, slot, count, alone=alone)

    def _acquire(self, cur: Cursor, slot: str, count: int, *, alone: bool) -> list[Turn]:
        scope, worker = self.scope, self.runner.worker
        has_work = may_ask(slots.get(cur, slot)) and claims.has_due(
            cur, scope.stages, scope.documents, alone=alone, slot=slot
        )
        if not has_work:
            return [Turn.NO_WORK] * count
        given = permits.acquire(cur, slot, worker.id, is_person=worker.is_person, is_exclusive=alone, count=count)
        return [Turn.YOURS] * given + [Turn.WAIT] * (count - given)


class Lane:
    """Holds a permit while there is work, and gives it up to a person between two calls."""

    def __init__(self, shared: Shared, freeze_watch: FreezeWatch, *, alone: bool = False) -> None:
        self._shared, self._vigil, self._alone = shared, freeze_watch, alone
        self._walker, self._slot = shared.runner, freeze_watch.slot
        # The change this lane last acted upon. Each lane keeps its own: a flag would be reset by the first of them.
        self._acted_upon = 0
        # The next document's claim, made in the transaction of the last one's result.
        self._ahead: asyncio.Task[tuple[int, Taken]] | None = None

    async def work(self) -> None:
        """Work until there is nothing to claim, or nothing new may be started."""
        while await self._wait_for_permit():
            is_given_up = False
            try:
                is_given_up = await self._work_while_permitted()
            finally:
                if not is_given_up:  # else the person has it already
                    await self._walker.ledger.run(permits.release, self._slot.name, self._walker.worker.id)
            if not is_given_up:
                return

    async def _wait_for_permit(self) -> bool:
        """Wait for a permit for as long as there is work this lane could do. False where there is none."""
        shared = self._shared
        while shared.may_start():
            shared.news.clear()
            self._acted_upon = shared.changes
            turn = await shared.turns.submit((self._slot.name, self._alone))
            if turn is Turn.YOURS:
                return True
            if turn is Turn.NO_WORK:
                break
            await shared.wait_for_news()
        await self._walker.ledger.run(permits.stop_waiting, self._slot.name, self._walker.worker.id)
        return False

    async def _work_while_permitted(self) -> bool:
        """Documents one after the other. True where the permit was given up to somebody who waits for it."""
        shared = self._shared
        while self._ahead is not None or shared.may_start():
            before, (row, claim) = await self._next_claim()
            if claim is None:
                if await self._is_worth_another_look(row):
                    continue
                return False
            if not claim.items:
                shared.count(DocumentEnd.DONE)
                continue
            with self._walker.commits.followed_by(claim, self._claim_ahead):
                shared.count(await self._walker.ask_all(claim, self._vigil, self._epochs(row.epoch, before)))
            if not self._alone and shared.are_too_many:
                shared.open.discard(asyncio.current_task())  # at once: else another lane ends for the same reason
                await self._give_back()
                return False
            if self._acted_upon != shared.changes:
                self._acted_upon = shared.changes
                if await self._gave_up_permit():
                    await self._give_back()
                    return True
        return False

    async def _next_claim(self) -> tuple[int, Taken]:
        """The number of changes before the claim, the slot at the claim, and the claim if there was one."""
        if self._ahead is not None:
            claiming, self._ahead = self._ahead, None
            return await claiming
        self._shared.counts.started += 1
        return await self._claim()

    def _claim_ahead(self) -> None:
        shared = self._shared
        if self._alone or shared.are_too_many or shared.changes != self._acted_upon or not shared.may_start():
            return
        # Counted before anything else runs: lanes that ask at the same time must not pass the limit together.
        shared.counts.started += 1
        self._ahead = asyncio.create_task(self._claim())
        # A lane that ends in an error, or is stopped, never awaits it, and asyncio would complain.
        self._ahead.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _claim(self) -> tuple[int, Taken]:
        before, scope = self._shared.changes, self._shared.scope
        documents = None if scope.documents is None else tuple(scope.documents)
        taken = await self._walker.commits.take(Want(self._slot.name, tuple(scope.stages), documents, self._alone))
        if taken[1] is None:
            self._shared.counts.started -= 1
        return before, taken

    async def _give_back(self) -> None:
        """A document that was claimed ahead and not begun goes back."""
        if self._ahead is None:
            return
        _, (_, claim) = await self._next_claim()
        if claim is not None:
            self._shared.counts.started -= 1
            reason = "not started: the slot was needed"
            await self._walker.ledger.run(claims.release, self._walker.worker.id, claim, reason)

    async def _epochs(self, first: int, looked_at: int) -> AsyncIterator[int]:
        """The slot's epoch for each call of a document; ends where nothing new may be started: the slot is away, a
        person waits for the permit, or the ledger gave this worker up."""
        epoch = first
        while not self._walker.worker.is_lost:
            yield epoch
            if self._shared.changes != looked_at:
                looked_at = self._shared.changes
                row = await registered(self._walker.ledger, self._slot)
                if row.breaker is not BreakerState.CLOSED or await self._is_permit_wanted():
                    return
                epoch = row.epoch

    async def _is_permit_wanted(self) -> bool:
        worker = self._walker.worker
        return await self._walker.ledger.run(permits.is_wanted, self._slot.name, is_person=worker.is_person)

    async def _gave_up_permit(self) -> bool:
        """After a call: give the permit back where a person waits for it or N was lowered."""
        worker, name = self._walker.worker, self._slot.name
        return await self._walker.ledger.run(permits.give_up_if_wanted, name, worker.id, is_person=worker.is_person)

    async def _is_worth_another_look(self, row: SlotRow) -> bool:
        """Nothing was claimed: wait or try where the reason may be over in a moment."""
        match after_no_claim(row):
            case Next.WAIT:
                self._shared.news.clear()
                await self._shared.wait_for_news()
                return True
            case Next.TRY_CLOSING:
                now = await try_closing(self._walker.ledger, self._walker.client, self._slot, self._walker.worker)
                return now.breaker is BreakerState.CLOSED
            case _:
                return False


async def set_within(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, or for so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
