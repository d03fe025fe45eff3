"""A migrated ledger with a deep slot."""

from collections.abc import Iterator

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.slots import slots
from tests.support.ledger import SLOT, Bench


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger(ledger_url) as ledger:
        ledger.run(slots.register, SLOT)
        yield ledger


@pytest.fixture
def bench(ledger: Ledger) -> Bench:
    return Bench(ledger)
