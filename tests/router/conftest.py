"""The stand-in router on a port of its own, and a slot behind it."""

from collections.abc import Iterator

import pytest

from dagster_offload.simulator.server import Router
from dagster_offload.slots import DEEP, SlotConfig


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's proxies have no say in tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def router() -> Iterator[Router]:
    """A stand-in router, awake, that answers at once."""
    with Router() as router:
        yield router


@pytest.fixture
def deep_slot(router: Router) -> SlotConfig:
    """The deep slot behind `router`, with time limits for a test's patience."""
    return SlotConfig(name=DEEP, url=router.url, model="qwen-macbook", connect_timeout=2.0, read_timeout=5.0)
