"""The event loop of a drain never waits for Postgres or splits a long text."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.stages.answers import quotes
from dagster_offload.stages.prompts import long_documents
from dagster_offload.stages.prompts.splitting import Size, split
from tests.support.engine import Engine


def test_no_ledger_transaction_runs_on_the_event_loop(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_long_text_is_split_in_a_thread_and_not_on_the_event_loop(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark measures how long the steps of the loop take (`make bench ARGS=gap`)."""
    long = "The tenant shall pay the rent on the first day of every month to the landlord. " * 3_000  # a thick book
    engine.extracted("long.txt", texts={"long.txt": long})
    on_loop: list[bool] = []

    def watched(text: str, sizes: Sequence[Size]) -> list[str]:
        if len(text) == len(long):
            on_loop.append(asyncio._get_running_loop() is not None)
        return split(text, sizes)

    monkeypatch.setattr(long_documents, "split", watched)
    assert engine.drain().done == 1
    assert on_loop
    assert not any(on_loop)


def test_quotes_are_looked_for_in_a_long_text_in_a_thread_and_not_on_the_event_loop(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.use_stages(payment={"prompt": "What must be paid?", "answer": {"amount": "number"}, "quotes": True})
    long = "The tenant shall pay 12 euros on the first day of every month to the landlord. " * 3_000
    engine.extracted("long.txt", texts={"long.txt": long})
    on_loop: list[bool] = []

    class Watched(quotes.Text):
        def __init__(self, text: str) -> None:
            on_loop.append(asyncio._get_running_loop() is not None)
            super().__init__(text)

    monkeypatch.setattr(quotes, "Text", Watched)
    assert engine.drain("payment", deep_context_tokens=200_000).done == 1
    assert on_loop
    assert not any(on_loop)
