"""Ledgers with records: one that the tests of a file share, and one for a test that changes it."""

from collections.abc import Iterator

import pytest

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.simulator import Router
from tests.support.database import database_url, new_database
from tests.support.engine import Engine, an_engine
from tests.support.environment import without_settings
from tests.support.records import fill


@pytest.fixture(scope="module")
def filled(postgres_url: str, ledger_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The records of `tests.support.records`, for the tests of a file that change nothing."""
    home = tmp_path_factory.mktemp("records")
    with (
        without_settings(home),
        Router() as router,
        new_database(postgres_url, ledger_template) as name,
        Ledger(database_url(postgres_url, name)) as ledger,
        an_engine(ledger, router, home) as engine,
    ):
        fill(engine)
        yield engine


@pytest.fixture
def own(engine: Engine) -> Engine:
    """The same records, for a test that changes them."""
    fill(engine)
    return engine
