"""What lanes that end at the same moment do together."""

import asyncio

from dagster_offload.client.ai_client import AIClient
from dagster_offload.engine.lanes.shared import Scope, Shared
from dagster_offload.engine.lanes.totals import Totals
from dagster_offload.engine.session import document_runner
from dagster_offload.ledger.core.aio import AsyncLedger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import permits, slots
from dagster_offload.slot.config import DEEP, SlotConfig
from tests.support.engine import Engine
from tests.support.statements import counted


def test_lanes_that_end_together_return_their_permits_in_one_transaction(engine: Engine) -> None:
    settings, ledger = engine.settings(deep_concurrency=4), engine.ledger
    assert isinstance(settings.slots.deep, SlotConfig)
    ledger.run(slots.register, settings.slots.deep)
    with Worker(ledger, "drain") as worker:
        assert ledger.run(permits.acquire, DEEP, worker.id, is_person=False, count=4) == 4
        runner = document_runner(settings, AsyncLedger(ledger), AIClient(settings.slots), worker)
        shared = Shared(runner, Scope(()), Totals())

        async def end_three_lanes() -> None:
            await asyncio.gather(*(shared.permit_releases.submit(DEEP) for _ in range(3)))

        with counted() as statements:
            asyncio.run(end_three_lanes())
        assert statements.count("begin") == 1
        assert ledger.run(permits.count_held, DEEP) == 1
