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
from tests.support.several_slots import KEYS, Several


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


@pytest.mark.rule("slot-17")
def test_a_slot_that_is_forgotten_finishes_its_open_calls_and_leaves_its_documents_to_another(several: Several) -> None:
    several.engine.texts(*KEYS)
    several.deep.set(hold=True)
    several.studio.set(hold=True)
    drain = several.engine.beside(several.engine.drain, deep_concurrency=4)
    several.deep.wait(open=4)
    several.studio.wait(open=1)
    several.engine.ledger.run(slots.forget, DEEP)
    several.deep.set(hold=False)
    several.deep.wait(answers=4)
    several.studio.set(hold=False)
    summary = drain.result()
    assert (summary.done, summary.failed, summary.deferred, summary.left) == (8, 0, 0, 0)
    answers = sum(count for (slot, _), count in several.answers().items() if slot == DEEP)
    asked = sum(entry["document"] is not None for entry in several.deep.completions())
    assert answers == asked >= 4, "the answers to its open calls count"
    assert several.asked_twice() == []
    assert several.engine.ledger.run(slots.get, DEEP) is None, "work in progress does not add a forgotten slot"
