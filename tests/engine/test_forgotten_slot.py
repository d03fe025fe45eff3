"""A slot that is forgotten during a drain."""

import asyncio
from typing import Any

import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.errors import SlotForgotten
from dagster_offload.ledger.slots import slots
from dagster_offload.slot.completion import Answer
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import CLASSIFY, SUMMARIZE
from tests.support.engine import Engine


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_drain_whose_slot_is_forgotten_reports_it_and_loses_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    engine.texts(*(f"{n}.txt" for n in range(8)))
    asked = 0

    async def ask(*_args: Any, **_options: Any) -> Answer:
        nonlocal asked
        asked += 1
        if asked == 2 * concurrency:
            await asyncio.to_thread(engine.ledger.run, slots.forget, DEEP)
        return Answer('{"category": "other", "summary": "words"}')

    monkeypatch.setattr(AIClient, "_request", ask)
    with pytest.raises(SlotForgotten, match="slot deep was forgotten"):
        engine.drain(deep_concurrency=concurrency)
    answered = engine.sql("select 1 from results where stage <> 'extract'")
    assert len(answered) > concurrency, "answers that arrived after the slot was forgotten count too"
    assert engine.sql("select 1 from work_items where state = 'claimed'") == []

    again = engine.drain(deep_concurrency=concurrency)

    assert (again.failed, again.deferred, again.left) == (0, 0, 0)
    assert engine.counts(CLASSIFY).done == engine.counts(SUMMARIZE).done == 8
    if concurrency == 1:
        assert asked == 16
