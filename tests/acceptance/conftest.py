"""Fixtures for real processes. Each test has its own home."""

from collections.abc import Iterator

import pytest

from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home, new_home


@pytest.fixture
def router(router: Router) -> Router:
    """The stand-in router, with its slot asleep."""
    router.set(mode="cold")
    return router


@pytest.fixture
def home(router: Router) -> Iterator[Home]:
    with a_home(router) as home:
        yield home


@pytest.fixture(name="new_home")
def new_home_fixture(router: Router) -> Iterator[Home]:
    with new_home(router) as home:
        yield home
