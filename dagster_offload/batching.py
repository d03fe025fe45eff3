"""Many small askings in few large ones: what comes while a batch is under way shares the next.

Nobody waits for company, and nobody for longer than the batch before and its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dagster_offload.errors import OffloadError

T = TypeVar("T")
R = TypeVar("R")

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
