"""Which notifications of the ledger make lanes look again."""

import asyncio

import pytest

from dagster_offload.client.ai_client import AIClient
from dagster_offload.engine.lanes.lanes import Lanes
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.session import document_runner
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.slot.config import SlotConfig
from tests.support.engine import Engine


@pytest.mark.parametrize(
    ("message", "looks"),
    [
        ("breaker:deep", True),
        ("pause:deep", True),
        ("freed", True),
        ("sink:hook", False),
        ("notify:phone", False),
        ("availability:deep", False),
    ],
)
def test_lanes_do_not_look_again_for_a_sink_a_channel_or_a_look_of_the_sensor(
    engine: Engine, message: str, looks: bool
) -> None:
    settings = engine.settings()
    assert isinstance(settings.slots.deep, SlotConfig)
    with Worker(engine.ledger, "drain") as worker:
        runner = document_runner(settings, AsyncLedger(engine.ledger), AIClient(settings.slots), worker)

        async def is_set() -> bool:
            lanes = Lanes(runner, settings.slots.deep, {}, Totals())  # type: ignore[arg-type]
            lanes._shared.notified.clear()
            lanes._notified(message)
            return lanes._shared.notified.is_set()

        assert asyncio.run(is_set()) is looks
