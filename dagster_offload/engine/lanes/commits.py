"""Group commit: results and claims that one worker's lanes submit at the same moment share one transaction.

A lane continues only after its own answer is in the ledger.
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
    """Stores the results and makes the claims of one worker's lanes. Belongs to one event loop."""

    def __init__(self, ledger: AsyncLedger, worker: Worker, recipes: Mapping[str, str]) -> None:
        self.ledger = ledger
        self.worker = worker
        self.recipes = recipes
        # Keyed by claim, not by work item: another lane can claim a deferred item before the first lane has moved on.
        self._followers: dict[int, Callable[[], None]] = {}
        self._batches: Batches[Finish | Want, bool | Taken | None] = Batches(self._commit)

    async def finish(self, finish: Finish) -> bool:
        """Commit a result. Returns True if the claim still held the work item."""
        follow = self._followers.get(finish.claim.token)
        if follow is not None and finish.item == finish.claim.items[-1]:
            follow()
        return bool(await self._batches.submit(finish))

    @contextmanager
    def followed_by(self, claim: Claim, follow: Callable[[], None]) -> Iterator[None]:
        """Call `follow` when the claim's last result is submitted in the block. A `take` that it starts shares the result's
        transaction."""
        self._followers[claim.token] = follow
        try:
            yield
        finally:
            del self._followers[claim.token]

    async def take(self, want: Want) -> Taken:
        """The slot's row and, if its breaker is closed and work is due, a claim. If the caller has stopped waiting, the
        claim is released when the worker deregisters. Raises `SlotForgotten`."""
        taken = await self._batches.submit(want)
        if taken is None:
            raise forgotten(want.slot)
        assert not isinstance(taken, bool)  # noqa: S101 - for the type checker
        return taken

    async def _commit(self, batch: Sequence[Finish | Want]) -> Sequence[bool | Taken | None]:
        held, taken = await self.ledger.run(
            groups.commit,
            self.worker.id,
            [each for each in batch if isinstance(each, Finish)],
            [each for each in batch if isinstance(each, Want)],
            self.recipes,
            self.worker.run_id,
        )
        held_in_order, taken_in_order = iter(held), iter(taken)
        return [next(held_in_order) if isinstance(each, Finish) else next(taken_in_order) for each in batch]


# In a larger batch the first entry would wait longer than its own transaction takes.
MOST_IN_A_BATCH = 64


@dataclass(frozen=True)
class _Waiting(Generic[T, R]):
    request: T
    answer: "asyncio.Future[R]"


class Batches(Generic[T, R]):
    """Passes submitted requests in batches to `do`, which returns one answer each, in order. Belongs to one event loop."""

    def __init__(self, do: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._do = do
        self._waiting: list[_Waiting[T, R]] = []
        self._working: asyncio.Task[None] | None = None

    async def submit(self, request: T) -> R:
        """Wait for the answer to `request`. Raises the error that `do` raised for it."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(request, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return await answer

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MOST_IN_A_BATCH], self._waiting[MOST_IN_A_BATCH:]
            try:
                await self._set_answers(batch)
            except OffloadError as error:  # the ledger or the slot is gone: no request of the batch can succeed
                _set_error(batch, error)
            # One request that cannot be done does not fail the others.
            except Exception as error:  # noqa: BLE001
                if len(batch) == 1:
                    _set_error(batch, error)
                else:
                    await self._one_by_one(batch)

    async def _one_by_one(self, batch: Sequence[_Waiting[T, R]]) -> None:
        for waiting in batch:
            try:
                await self._set_answers([waiting])
            except Exception as error:  # noqa: BLE001 - `submit` raises it
                _set_error([waiting], error)

    async def _set_answers(self, batch: Sequence[_Waiting[T, R]]) -> None:
        answers = await self._do([waiting.request for waiting in batch])
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():  # else its caller has stopped waiting
                waiting.answer.set_result(answer)


def _set_error(batch: Sequence[_Waiting[T, R]], error: Exception) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)
