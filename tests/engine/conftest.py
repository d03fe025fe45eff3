"""The engine with a stand-in router and a ledger."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.simulator.server import Router
from tests.support.engine import Engine


@pytest.fixture
def engine(ledger_url: str, router: Router, tmp_path: Path) -> Iterator[Engine]:
    with Ledger(ledger_url) as ledger:
        engine = Engine(ledger, router, tmp_path)
        deep = engine.settings().slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        try:
            yield engine
        finally:
            router.set(hold=False)
            engine.pool.shutdown()
