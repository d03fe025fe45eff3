"""A lane: one task of a worker that holds one permit and works on one document at a time.

The lanes of one worker share a `Shared`. Two pure functions of the slot's row decide what a lane does next: `may_send`
(`engine/lanes/shared.py`) and `after_no_claim`. `engine/lanes/lanes.py` decides how many lanes there are.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import Enum, auto

from dagster_offload import timing
from dagster_offload.client.freeze_watch import FreezeWatch
from dagster_offload.engine.lanes.shared import PermitReply, Shared
from dagster_offload.engine.lanes.turn import Turn
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.engine.slot.breaker import present, try_closing
from dagster_offload.engine.slot.free_work import pause_after
from dagster_offload.errors import SlotForgotten
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow
from dagster_offload.ledger.slots import permits
from dagster_offload.ledger.work import claims
from dagster_offload.ledger.work.groups import Taken, Want
from dagster_offload.stages.prompts.splitting import Sizes


class Next(Enum):
    """What a lane does if it could not claim a document."""

    WAIT = auto()  # a trial is running and will end soon
    TRY_CLOSING = auto()  # the breaker is open and a trial is due
    END = auto()


def after_no_claim(slot: SlotRow) -> Next:
    """Decide what a lane does if it could not claim a document."""
    if slot.is_trial_running:
        return Next.WAIT
    return Next.TRY_CLOSING if slot.is_retry_due else Next.END


class Lane:
    """Holds a permit while there is work. Between two calls it gives the permit up if a person waits for one, and between two
    parts of a long document it takes shorter ones first."""

    def __init__(self, shared: Shared, freeze_watch: FreezeWatch, *, alone: bool = False) -> None:
        self._shared, self._freeze_watch, self._alone = shared, freeze_watch, alone
        self._runner, self._slot = shared.runner, freeze_watch.slot
        # The last change this lane handled. Each lane has its own number: the first lane would reset a shared flag.
        self._handled = 0
        self._in_work: Claim | None = None  # the claim whose stages run now
        # The claim of the next document, made in the transaction of the previous result.
        self._ahead: asyncio.Task[tuple[int, Taken]] | None = None
        self._look_at = 0.0  # on the loop's clock: the next look for shorter documents than the one in work
        self.has_made_way = False  # a lane for documents that run alone ended because others are due

    async def work(self) -> None:
        """Work until no document can be claimed, or no new one may be started.

        After an error the permit is returned when the worker ends: without Postgres each lane would wait for it here.
        """
        with self._shared.ending_if_forgotten():
            while await self._wait_for_permit():
                if not await self._work_while_permitted():  # else a person has the permit already
                    await self._shared.permit_releases.submit(self._slot.name)
                    return
        if self._shared.is_forgotten:
            await self._release_claims()

    def _must_leave(self) -> bool:
        return not self._alone and self._shared.must_leave()

    async def _wait_for_permit(self) -> bool:
        """Wait for a permit while there is work for this lane. False if there is none."""
        shared = self._shared
        while shared.may_start() and not self._must_leave():
            shared.notified.clear()
            self._handled = shared.changes
            reply = await shared.permit_requests.submit((self._slot.name, self._alone))
            if reply is PermitReply.GRANTED:
                if not self._must_leave():
                    return True
                await shared.permit_releases.submit(self._slot.name)
                return False
            if reply is PermitReply.NO_WORK:
                break
            shared.has_waited = True
            with shared.one_more_waiting():
                await shared.wait_for_notification()
        await self._runner.ledger.run(permits.stop_waiting, self._slot.name, self._runner.worker.id)
        return False

    async def _work_while_permitted(self) -> bool:
        """Work on one document after the other. True if the permit was given up to a person."""
        shared = self._shared
        while self._ahead is not None or shared.may_start():
            before, (row, claim) = await self._next_claim()
            if claim is None:
                if await self._can_try_again(row):
                    continue
                return False
            if not claim.items:
                shared.count(claim, DocumentEnd.DONE)
                continue
            with self._claiming_ahead(claim):
                end = await self._run_document(claim, Turn(self._epochs(row.epoch, before), self._must_make_way))
                shared.count(claim, end)
            if end is DocumentEnd.MADE_WAY:
                shared.totals.note_release(claim)
                if self._alone:
                    self.has_made_way = True
                    return False
            if self._must_leave():
                if end is DocumentEnd.LEFT:
                    shared.totals.note_release(claim)  # another lane takes it, also if the limit is reached
                await self._release_claimed_ahead()
                return False
            if self._handled != shared.changes:
                self._handled = shared.changes
                if await self._give_up_permit_if_wanted():
                    await self._release_claimed_ahead()
                    return True
        return False

    async def _run_document(self, claim: Claim, turn: Turn) -> DocumentEnd:
        """Run the stages of a claim, then those of the document that become due by its answers."""
        runner, stages = self._runner, self._shared.scope.stages
        sizes: Sizes | None = None  # how the previous stage split the document
        self._in_work, end = claim, DocumentEnd.DONE
        while self._in_work is not None:
            end, sizes = await runner.run_stages(self._in_work, sizes, self._freeze_watch, turn)
            is_done = end is DocumentEnd.DONE
            self._in_work = await runner.take_following(self._in_work, stages, self._slot) if is_done else None
        return end

    async def _next_claim(self) -> tuple[int, Taken]:
        """The number of changes before the claim, the slot's row, and the claim if one was made."""
        if self._ahead is not None:
            claiming, self._ahead = self._ahead, None
            return await claiming
        self._shared.totals.count_ahead()
        return await self._claim()

    def _claiming_ahead(self, claim: Claim) -> contextlib.AbstractContextManager[None]:
        """In the block, claim the next document with the claim's last result, unless that result makes more stages due."""
        if self._runner.graph.has_followers([item.stage for item in claim.items]):
            return contextlib.nullcontext()
        return self._runner.commits.followed_by(claim, self._claim_ahead)

    def _claim_ahead(self) -> None:
        shared = self._shared
        if self._alone or shared.has_too_many_lanes or shared.changes != self._handled or not shared.may_start():
            return
        shared.totals.count_ahead()
        self._ahead = asyncio.create_task(self._claim())
        # A lane that fails or is stopped does not await this task. Reading its result keeps asyncio from logging an error.
        self._ahead.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    async def _claim(self) -> tuple[int, Taken]:
        before, scope = self._shared.changes, self._shared.scope
        documents = None if scope.documents is None else tuple(scope.documents)
        try:
            taken = await self._runner.commits.take(Want(self._slot.name, tuple(scope.stages), documents, self._alone))
        except BaseException:
            self._shared.totals.note_claim(None)
            raise
        self._shared.totals.note_claim(taken[1])
        return before, taken

    async def _release_claims(self) -> None:
        """Release what this lane had claimed when the slot was forgotten, so that another slot can take it."""
        if self._in_work is not None:
            claim, reason = self._in_work, "not answered: the slot was forgotten"
            await self._runner.ledger.run(claims.release, self._runner.worker.id, claim, reason)
        with contextlib.suppress(SlotForgotten):
            await self._release_claimed_ahead()

    async def _release_claimed_ahead(self) -> None:
        """Release a document that was claimed ahead and not started."""
        if self._ahead is None:
            return
        _, (_, claim) = await self._next_claim()
        if claim is not None:
            self._shared.totals.note_release(claim)
            reason = "not started: the slot was needed"
            await self._runner.ledger.run(claims.release, self._runner.worker.id, claim, reason)

    async def _epochs(self, first: int, handled: int) -> AsyncIterator[int]:
        """Yield the slot's epoch for each call of a document. Ends when no new call may start: the slot is unavailable, a
        person waits for the permit, or the lanes must end."""
        epoch = first
        while not self._shared.must_end:
            yield epoch
            if self._shared.changes != handled:
                handled = self._shared.changes
                row = await present(self._runner.ledger, self._slot)
                if row.breaker is not BreakerState.CLOSED or await self._is_permit_wanted():
                    return
                epoch = row.epoch

    async def _must_make_way(self, priority: int) -> bool:
        """Whether documents before this priority are due that no free lane takes. Looks at intervals, not after each part."""
        shared, loop = self._shared, asyncio.get_running_loop()
        began = loop.time()
        if began < self._look_at or shared.scope.documents is not None:  # a run of chosen documents has no new ones
            return False
        is_so = await self._runner.ledger.run(shared.must_make_way, self._slot.name, priority, alone=self._alone)
        # If a large backlog is postponed, finding out that none of it is due may take long.
        self._look_at = loop.time() + max(timing.current().make_way, pause_after(loop.time() - began))
        return is_so

    async def _is_permit_wanted(self) -> bool:
        worker = self._runner.worker
        return await self._runner.ledger.run(permits.is_wanted, self._slot.name, is_person=worker.is_person)

    async def _give_up_permit_if_wanted(self) -> bool:
        """Give the permit up if a person waits for one or the concurrency was lowered."""
        worker, name = self._runner.worker, self._slot.name
        return await self._runner.ledger.run(permits.give_up_if_wanted, name, worker.id, is_person=worker.is_person)

    async def _can_try_again(self, row: SlotRow) -> bool:
        """Whether to try to claim again, after waiting for a trial or running one."""
        match after_no_claim(row):
            case Next.WAIT:
                self._shared.notified.clear()
                await self._shared.wait_for_notification()
                return True
            case Next.TRY_CLOSING:
                after = await try_closing(self._runner.ledger, self._runner.client, self._slot, self._runner.worker)
                return after.breaker is BreakerState.CLOSED
            case _:
                return False
