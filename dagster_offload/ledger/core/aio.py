"""The ledger for code on an event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Concatenate, ParamSpec, TypeVar

from dagster_offload.ledger.core.database import Cursor, Ledger

P = ParamSpec("P")
T = TypeVar("T")


class AsyncLedger:
    """Runs ledger steps in threads, so that no open call on the event loop waits for Postgres."""

    def __init__(self, ledger: Ledger, executor: Executor | None = None) -> None:
        self.ledger = ledger
        self._executor = executor

    async def run(self, step: Callable[Concatenate[Cursor, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """`Ledger.run` in a thread. Raises `LedgerUnavailable`."""

        def in_thread() -> T:
            return self.ledger.run(step, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, in_thread)
