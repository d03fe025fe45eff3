"""Count the statements that a step of the ledger sends."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest


@contextmanager
def counted() -> Iterator[list[object]]:
    """A list of the statements that this process sends inside the block."""
    seen: list[object] = []
    execute = psycopg.Cursor.execute

    def counting(self: object, query: object, *args: object, **kwargs: object) -> object:
        seen.append(query)
        return execute(self, query, *args, **kwargs)  # type: ignore[call-overload]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", counting)
        yield seen
