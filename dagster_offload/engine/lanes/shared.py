"""The state that one worker's lanes at one slot share: their scope, their number, and the permits they request together."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from dagster_offload import timing
from dagster_offload.engine.lanes.commits import Batches
from dagster_offload.engine.lanes.document import DocumentRunner
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.progress import DocumentEnd
from dagster_offload.errors import SlotForgotten
from dagster_offload.ledger.core.database import Cursor
from dagster_offload.ledger.core.rows import BreakerState, Claim, SlotRow
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.ledger.work import claims
from dagster_offload.slot.config import MAX_CONCURRENCY
from dagster_offload.slot.rest import Rest


@dataclass
class Scope:
    """The work to do at a slot: the stages that it takes now, and the documents (None = all that are due).

    `stages` is replaced when the slot becomes a reserve for some of them or holds one, or stops doing so. A document that was
    begun is finished.
    """

    stages: Sequence[str]
    documents: Sequence[str] | None = None


class PermitReply(Enum):
    """What a lane does after it requested a permit."""

    GRANTED = auto()
    WAIT = auto()
    NO_WORK = auto()


def may_send(slot: SlotRow | None) -> bool:
    """Whether calls may be sent to a slot, now or after a trial that is running or due."""
    if slot is None or slot.breaker is BreakerState.MISCONFIGURED:
        return False
    return slot.breaker is BreakerState.CLOSED or slot.is_trial_running or slot.is_retry_due


@dataclass
class Shared:
    """The state that one worker's lanes at one slot share. Belongs to one event loop."""

    runner: DocumentRunner
    scope: Scope
    totals: Totals
    lanes: set[asyncio.Task[Any] | None] = field(default_factory=set)  # those that run at the same time
    waiting: int = 0  # how many lanes wait for a permit
    max_lanes: int = MAX_CONCURRENCY  # lower after a 429, for some time
    reduced_at: float = 0.0  # on the loop's clock: when `max_lanes` was last changed
    is_reduced: bool = False  # a lane has ended although it might have found more work
    ended: int = 0  # the number of documents whose work ended here, however it ended
    changes: int = 0  # the number of notifications received about slots or permits
    is_forgotten: bool = False  # a person removed the slot from the ledger
    has_waited: bool = False  # a lane has waited for a permit
    is_superseded: bool = False  # the running `up` now works with other recipes
    rest: Rest | None = None  # why the slot rests
    notified: asyncio.Event = field(default_factory=asyncio.Event)
    permit_requests: Batches[tuple[str, bool], PermitReply] = field(init=False)
    permit_releases: Batches[str, None] = field(init=False)

    def __post_init__(self) -> None:
        self.permit_requests = Batches(self._request_permits)
        self.permit_releases = Batches(self._release_permits)

    @property
    def has_too_many_lanes(self) -> bool:
        """Whether a lane has to end."""
        return len(self.lanes) > self.max_lanes

    def must_leave(self) -> bool:
        """Whether the running lane has to end because there are too many. It no longer counts as one: no other lane ends in
        its place."""
        lane = asyncio.current_task()
        if self.has_too_many_lanes:
            self.is_reduced = True
            self.lanes.discard(lane)
        return lane not in self.lanes

    @property
    def must_end(self) -> bool:
        """Whether no new call may start: the ledger considers this worker dead, its pipeline is no longer in force, the slot
        was forgotten or rests, or the disk could not hold an answer."""
        is_ended = self.runner.worker.is_lost or self.is_superseded or self.is_forgotten or self.rest is not None
        return is_ended or self.runner.shortage is not None

    def may_start(self) -> bool:
        """Whether another document may be started: the limit is not reached, the slot takes a stage, and calls may start."""
        return bool(self.scope.stages) and not (self.totals.is_full or self.must_end)

    @contextlib.contextmanager
    def ending_if_forgotten(self) -> Iterator[None]:
        """If the slot is forgotten in the block, leave the block, and let all lanes end after their open calls."""
        try:
            yield
        except SlotForgotten:
            self.is_forgotten = True
            self.notified.set()  # for lanes that wait

    @contextlib.contextmanager
    def one_more_waiting(self) -> Iterator[None]:
        """Count a lane as one that waits for a permit while the block runs."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    def count(self, claim: Claim, end: DocumentEnd) -> None:
        """Count one document, and report the progress."""
        self.ended += 1
        self.totals.count(claim.document_id, end)

    async def wait_for_notification(self) -> None:
        """Wait for a notification, or until the next regular check."""
        await wait_until_set(self.notified, timing.current().recheck)

    def must_make_way(self, cur: Cursor, slot: str, priority: int, *, alone: bool) -> bool:
        """Whether documents before this priority are due, and no other lane can be opened for them. `alone`: the asking lane
        excludes others."""
        if not alone and len(self.lanes) < self.max_lanes:
            row = slots.get(cur, slot)
            if row is None or permits.count_held(cur, slot) < row.concurrency:
                return False
        return claims.is_any_before(cur, self.scope.stages, slot, priority)

    async def _request_permits(self, requests: Sequence[tuple[str, bool]]) -> list[PermitReply]:
        """Request permits for lanes that need one at the same moment. All requests are equal: one slot, alone or not."""
        (slot, alone), count = requests[0], len(requests)
        return await self.runner.ledger.run(self._acquire, slot, count, alone=alone)

    def _acquire(self, cur: Cursor, slot: str, count: int, *, alone: bool) -> list[PermitReply]:
        scope, worker = self.scope, self.runner.worker
        has_work = may_send(slots.get(cur, slot)) and claims.has_due(
            cur, scope.stages, scope.documents, alone=alone, slot=slot
        )
        if not has_work:
            return [PermitReply.NO_WORK] * count
        granted = permits.acquire(cur, slot, worker.id, is_person=worker.is_person, is_exclusive=alone, count=count)
        return [PermitReply.GRANTED] * granted + [PermitReply.WAIT] * (count - granted)

    async def _release_permits(self, slots: Sequence[str]) -> list[None]:
        """Return the permits of lanes that end at the same moment, all at one slot."""
        await self.runner.ledger.run(permits.release, slots[0], self.runner.worker.id, len(slots))
        return [None] * len(slots)


async def wait_until_set(event: asyncio.Event, seconds: float) -> None:
    """Wait until `event` is set, for at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
