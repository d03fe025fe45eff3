"""A lane's turn at a document: what ends it before the document is done."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """How long a lane may work on a document."""

    # The slot's epoch for each call; ends when no new call may be started.
    epochs: AsyncIterator[int]
    # Asked between two parts: whether a document before this priority is due.
    must_make_way: Callable[[int], Awaitable[bool]]
