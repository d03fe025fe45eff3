"""The event loop beside a drain: nothing on it waits for Postgres, nothing keeps it from the open calls for long."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dagster_offload.ledger.core.database import Cursor, Ledger
from tests.support.engine import Engine

LONGEST_SECONDS = 0.05


def test_no_step_of_the_ledger_runs_on_the_event_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.texts(*(f"{number}.txt" for number in range(6)))
    on_loop: list[str] = []
    transaction = Ledger.transaction

    @contextmanager
    def watched(self: Ledger) -> Iterator[Cursor]:
        if asyncio._get_running_loop() is not None:
            on_loop.append(threading.current_thread().name)
        with transaction(self) as cursor:
            yield cursor

    monkeypatch.setattr(Ledger, "transaction", watched)
    assert engine.drain(deep_concurrency=4).done == 6
    assert on_loop == []


def test_nothing_on_the_event_loop_takes_longer_than_50_ms(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of the loop's own thread: what other processes of a busy machine take is not ours."""
    engine.texts(*(f"{number}.txt" for number in range(30)))
    long = "The tenant shall pay the rent on the first day of every month to the landlord. " * 3_000  # a thick book
    engine.extracted("long.txt", texts={"long.txt": long})
    taken: list[float] = []
    run = asyncio.Handle._run

    def timed(self: asyncio.Handle) -> None:
        began = time.thread_time()
        run(self)
        taken.append(time.thread_time() - began)

    assert engine.drain(limit=1).done == 1  # what is imported and connected once is not what a drain does
    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    assert engine.drain(deep_concurrency=8).done == 30
    assert max(taken) < LONGEST_SECONDS
