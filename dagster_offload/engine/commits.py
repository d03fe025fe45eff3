"""Group commit: one worker's finishes and claims, those of the same moment in one transaction.

A lane goes on only when its own answer is in the ledger.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.rows import Claim
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots.slots import forgotten
from dagster_offload.ledger.work import groups
from dagster_offload.ledger.work.finish import Finish
from dagster_offload.ledger.work.groups import Taken, Want

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit:
    """The one door of a worker's lanes to what they finish and claim. Belongs to one event loop."""

    def __init__(self, ledger: AsyncLedger, worker: Worker, recipes: Mapping[str, str]) -> None:
        self.ledger = ledger
        self.worker = worker
        self.recipes = recipes
        # By claim, not by work item: one that was put off can be another lane's before the lane that had it moves on.
        self._followers: dict[int, Callable[[], None]] = {}
        self._batches: Batches[Finish | Want, bool | Taken | None] = Batches(self._commit)

    async def finish(self, finish: Finish) -> bool:
        """True where the claim still held the work item. Returns once it is committed."""
        follow = self._followers.get(finish.claim.token)
        if follow is not None and finish.item == finish.claim.items[-1]:
            follow()
        return bool(await self._batches.submit(finish))

    @contextmanager
    def followed_by(self, claim: Claim, follow: Callable[[], None]) -> Iterator[None]:
        """Call `follow` when the last result of the claim comes in the block: a `take` it starts shares its transaction."""
        self._followers[claim.token] = follow
        try:
            yield
        finally:
            del self._followers[claim.token]

    async def take(self, want: Want) -> Taken:
        """The slot as it is and, where its breaker is closed and something is due, a claim. One that nobody waits for
        any more goes back with the worker's goodbye. Raises `SlotForgotten`."""
        taken = await self._batches.submit(want)
        if taken is None:
            raise forgotten(want.slot)
        assert not isinstance(taken, bool)  # noqa: S101 - for the type checker
        return taken

    async def _commit(self, asked: Sequence[Finish | Want]) -> Sequence[bool | Taken | None]:
        held, taken = await self.ledger.run(
            groups.commit,
            self.worker.id,
            [each for each in asked if isinstance(each, Finish)],
            [each for each in asked if isinstance(each, Want)],
            self.recipes,
            self.worker.run_id,
        )
        held_in_order, taken_in_order = iter(held), iter(taken)
        return [next(held_in_order) if isinstance(each, Finish) else next(taken_in_order) for each in asked]


# More in one batch would hold the first of them for longer than it would have taken alone.
MOST_IN_A_BATCH = 64


@dataclass(frozen=True)
class _Waiting(Generic[T, R]):
    asked: T
    told: "asyncio.Future[R]"


class Batches(Generic[T, R]):
    """Hands what is submitted to `do`, which returns an answer for each, in order. Belongs to one event loop."""

    def __init__(self, do: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._do = do
        self._waiting: list[_Waiting[T, R]] = []
        self._working: asyncio.Task[None] | None = None

    async def submit(self, asked: T) -> R:
        """The answer to this one. Raises what `do` raised for it."""
        told: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asked, told))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await told

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
            try:
                await self._tell_answers(batch)
            except OffloadError as error:  # what it needs is away for good: nobody's asking fits into it
                _tell_error(batch, error)
            # One that cannot be done is its own affair: the others go without it.
            except Exception as error:  # noqa: BLE001
                if len(batch) == 1:
                    _tell_error(batch, error)
                else:
                    await self._one_by_one(batch)

    async def _one_by_one(self, batch: Sequence[_Waiting[T, R]]) -> None:
        for waiting in batch:
            try:
                await self._tell_answers([waiting])
            except Exception as error:  # noqa: BLE001 - raised where it was submitted
                _tell_error([waiting], error)

    async def _tell_answers(self, batch: Sequence[_Waiting[T, R]]) -> None:
        answers = await self._do([waiting.asked for waiting in batch])
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.told.done():  # else nobody waits for it any more
                waiting.told.set_result(answer)


def _tell_error(batch: Sequence[_Waiting[T, R]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.told.done():
            waiting.told.set_exception(error)
