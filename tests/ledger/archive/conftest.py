"""A ledger with work of every kind, and an empty database beside it."""

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
        yield engine
        engine.pool.shutdown()


@pytest.fixture
def empty(empty_url: str) -> Iterator[Ledger]:
    """A ledger in a database without any schema of ours."""
    with Ledger(empty_url) as ledger:
        yield ledger


@pytest.fixture
def backup_file(tmp_path: Path) -> Path:
    return tmp_path / "offload.backup"
