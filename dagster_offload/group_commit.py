"""Group commit: one worker's finishes and claims, those of the same moment in one transaction.

A lane goes on only when its own answer is in the ledger.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dagster_offload.batching import Batches
from dagster_offload.gate import AsyncLedger
from dagster_offload.ledger import groups
from dagster_offload.ledger.groups import Finish, Taken, Want
from dagster_offload.ledger.records import Claim
from dagster_offload.ledger.slots import forgotten
from dagster_offload.ledger.workers import Worker


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
        """`results.finish`: True where the claim still held the work item. Returns once it is committed."""
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
