"""One worker at several slots at the same time, each with its own lanes, permits and breaker.

While it works at one of them, the others are looked at again at intervals: a slot may be back, and a document that one slot
deferred may be answered by another. At a single slot the work ends when nothing is due there or the slot is unavailable.
A slot in reserve gets its turn when the slots of a higher priority have become unavailable.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dagster_offload import timing
from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.lanes.shared import may_send
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.slot.breaker import check_breaker
from dagster_offload.engine.slot.free_work import pause_after
from dagster_offload.engine.slot.state import SlotState
from dagster_offload.errors import SlotForgotten
from dagster_offload.ledger.core.rows import SlotRow
from dagster_offload.ledger.slots import slots
from dagster_offload.slot.config import SlotConfig
from dagster_offload.slot.reserve import preferred_to


@dataclass
class _Turns:
    """The lanes at one slot, and when they had their last turn. A turn is a check of the slot, then work until it ends."""

    lanes: Lanes
    turn: asyncio.Task[None] | None = None
    is_at_work: bool = False
    is_forgotten: bool = False  # a person removed the slot from the ledger
    next_at: float = 0.0  # on the loop's clock
    ended_elsewhere: int = 0  # the documents that had ended at other slots when the last turn began
    was_available: bool = False  # when the last turn ended; kept only if the slots have different priorities

    @property
    def is_over(self) -> bool:
        return self.turn is None or self.turn.done()


class SeveralSlots:
    """One worker's work on the same documents at several slots. Each slot gets only the stages that it may answer."""

    def __init__(
        self,
        runner: DocumentRunner,
        configured: Sequence[SlotConfig],
        stages: Mapping[str, Sequence[str]],
        totals: Totals,
        documents: Sequence[str] | None = None,
    ) -> None:
        """`stages`: by slot, those that it may answer. `documents`: their keys; None = all that are due."""
        self._runner, self._totals = runner, totals
        runner.on_part = totals.report_part
        self._has_priorities = len({slot.priority for slot in configured}) > 1
        self._slots = [
            _Turns(Lanes(runner, slot, preferred_to(slot, configured, stages), totals, documents))
            for slot in configured
            if stages.get(slot.name)
        ]

    async def work(self) -> None:
        """Work at all slots until none of them can do more. The first error cancels everything and is raised unwrapped."""
        try:
            async with asyncio.TaskGroup() as group:
                await self._take_turns(group)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def make_trials_due(self) -> None:
        """Let each slot be checked at once, if work is left for it and it does not rest. For a drain that a person starts."""
        for each in self._slots:
            if await each.lanes.is_any_left() and await each.lanes.read_rest() is None:
                await self._runner.ledger.run(slots.make_trial_due, each.lanes.slot.name)

    async def slots_waited_for(self, rows: Mapping[str, SlotRow | None]) -> list[SlotState]:
        """The slots that what is left waits for, from their rows by name, and once more for each stage that they hold.

        What is left beyond the limit waits for none.
        """
        found = []
        for each in self._slots if not self._totals.is_full else ():
            await each.lanes.look()
            state = SlotState(rows[each.lanes.slot.name], each.lanes.rest)
            if await each.lanes.is_any_left():
                found.append(state)
            found += [replace(state, hold=hold) for hold in await each.lanes.holds_with_work()]
        return found

    @property
    def is_superseded(self) -> bool:
        """Whether the work ended because the running `up` took over another pipeline."""
        return any(each.lanes.is_superseded for each in self._slots)

    async def _take_turns(self, group: asyncio.TaskGroup) -> None:
        for each in self._slots:
            each.lanes.listen()  # all of them from now on: a change of the pipeline concerns those that work later, too
            each.turn = group.create_task(self._take_turn(each))
        while running := [each.turn for each in self._slots if each.turn is not None and not each.is_over]:
            await asyncio.wait(running, timeout=timing.current().recheck, return_when=asyncio.FIRST_COMPLETED)
            for each in self._slots:
                if each.is_over and self._may_start(each) and await self._is_due(each):
                    each.turn = group.create_task(self._take_turn(each))

    async def _is_due(self, each: _Turns) -> bool:
        """Whether the slot gets its next turn, while others have theirs or after they have ended.

        A check of another slot may hang for as long as a call. Meanwhile this slot gets a turn for work that it can do
        now, but not for a check: two slots that are unavailable would keep the work going by checking in turn.
        """
        is_time = asyncio.get_running_loop().time() >= each.next_at
        if any(other.is_at_work for other in self._slots):
            return is_time
        if each.ended_elsewhere < self._ended_elsewhere(each) or await self._may_do_more(each):
            return True
        is_any_checked = not all(other.is_over for other in self._slots)
        return is_any_checked and is_time and await each.lanes.can_work_now()

    async def _may_do_more(self, each: _Turns) -> bool:
        """Whether the slot may do more than at the end of its last turn: it is back, or a better slot has become
        unavailable."""
        if not self._has_priorities:
            return False
        before, was_available = set(each.lanes.scope.stages), each.was_available
        each.was_available = await each.lanes.is_available()
        await each.lanes.look()
        return (each.was_available and not was_available) or not before.issuperset(each.lanes.scope.stages)

    async def _take_turn(self, each: _Turns) -> None:
        """Check the slot if it is unavailable, then work at it if it is not."""
        lanes, runner, loop = each.lanes, self._runner, asyncio.get_running_loop()
        pause = timing.current().recheck
        each.ended_elsewhere = self._ended_elsewhere(each)
        try:
            if await lanes.look() and await lanes.is_any_left():
                row = await check_breaker(runner.ledger, runner.client, lanes.slot, runner.worker)
                if may_send(row):
                    each.is_at_work = True
                    began, ended_before = loop.time(), lanes.ended
                    await lanes.work()
                    # All that is due is held back, and finding that out may take long.
                    if lanes.ended == ended_before and not lanes.has_waited:
                        pause = max(pause, pause_after(loop.time() - began))
            if self._has_priorities:
                each.was_available = await lanes.is_available()
        except SlotForgotten:
            if len(self._slots) == 1:
                raise
            each.is_forgotten = True
        finally:
            each.is_at_work = False
            each.next_at = loop.time() + pause

    def _may_start(self, each: _Turns) -> bool:
        has_ended = self._totals.is_full or self.is_superseded or self._runner.worker.is_lost
        return not (has_ended or each.is_forgotten)

    def _ended_elsewhere(self, each: _Turns) -> int:
        return self._totals.ended - each.lanes.ended
