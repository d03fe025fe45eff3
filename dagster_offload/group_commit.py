"""Group commit: one worker's finishes and claims, those of the same moment in one transaction.

What comes while a transaction is under way shares the next one, so an answer waits for one commit at most, and never
for company. A lane goes on only when its own answer is in the ledger.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dagster_offload.errors import OffloadError
from dagster_offload.gate import AsyncLedger
from dagster_offload.ledger import groups
from dagster_offload.ledger.groups import Finish, Taken, Want
from dagster_offload.ledger.records import ClaimedItem
from dagster_offload.ledger.workers import Worker

# More in one transaction would hold the first of them for longer than it would have taken alone.
MOST_IN_A_GROUP = 64


@dataclass(frozen=True)
class _Waiting:
    what: Finish | Want
    told: "asyncio.Future[Any]"


class GroupCommit:
    """The one door of a worker's lanes to what they finish and claim. Belongs to one event loop."""

    def __init__(self, ledger: AsyncLedger, worker: Worker, recipes: Mapping[str, str]) -> None:
        self.ledger = ledger
        self.worker = worker
        self.recipes = recipes
        self._followers: dict[int, Callable[[], None]] = {}  # by work item
        self._waiting: list[_Waiting] = []
        self._committing: asyncio.Task[None] | None = None

    async def finish(self, finish: Finish) -> bool:
        """`results.finish`: True where the claim still held the work item. Returns once it is committed."""
        if (follow := self._followers.get(finish.item.item_id)) is not None:
            follow()
        return bool(await self._submitted(finish))

    @contextmanager
    def followed_by(self, item: ClaimedItem, follow: Callable[[], None]) -> Iterator[None]:
        """Call `follow` when the item's result comes in the block: a `take` it starts shares the result's transaction."""
        self._followers[item.item_id] = follow
        try:
            yield
        finally:
            del self._followers[item.item_id]

    async def take(self, want: Want) -> Taken:
        """The slot as it is and, where its breaker is closed and something is due, a claim."""
        taken: Taken = await self._submitted(want)
        return taken

    async def _submitted(self, what: Finish | Want) -> Any:
        told: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(what, told))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_waiting())
        return await told

    async def _commit_waiting(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST_IN_A_GROUP], self._waiting[MOST_IN_A_GROUP:]
            try:
                await self._commit(group)
            except OffloadError as error:  # Postgres is away for good: nobody's answer fits into it
                _tell_error(group, error)
            # A row that Postgres refuses is that row's own affair: the others go without it.
            except Exception as error:  # noqa: BLE001
                if len(group) == 1:
                    _tell_error(group, error)
                else:
                    await self._commit_one_by_one(group)

    async def _commit_one_by_one(self, group: list[_Waiting]) -> None:
        for waiting in group:
            try:
                await self._commit([waiting])
            except Exception as error:  # noqa: BLE001 - raised where its lane waits
                _tell_error([waiting], error)

    async def _commit(self, group: list[_Waiting]) -> None:
        finishes = [(waiting.what, waiting.told) for waiting in group if isinstance(waiting.what, Finish)]
        wants = [(waiting.what, waiting.told) for waiting in group if isinstance(waiting.what, Want)]
        held, taken = await self.ledger.run(
            groups.commit,
            self.worker.id,
            [finish for finish, _ in finishes],
            [want for want, _ in wants],
            self.recipes,
            self.worker.run_id,
        )
        told = [told for _, told in (*finishes, *wants)]
        for future, answer in zip(told, [*held, *taken], strict=True):
            if not future.done():  # its lane was stopped; a claim it got goes back with the worker's goodbye
                future.set_result(answer)


def _tell_error(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.told.done():
            waiting.told.set_exception(error)
