"""Real processes in a home that belongs to one test."""

from collections.abc import Iterator

import pytest

from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home


@pytest.fixture
def router(router: Router) -> Router:
    """The stand-in router. Its slot is unavailable at first."""
    router.set(mode="cold")
    return router


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    with a_home(router) as home:
        yield home
