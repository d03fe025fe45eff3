"""The stand-in router on a free port, and a slot behind it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import DEEP, SlotConfig


@pytest.fixture
def router(stand_in_router: Router) -> Router:
    """An awake stand-in router that answers immediately."""
    return stand_in_router


@pytest.fixture
def deep_slot(router: Router) -> SlotConfig:
    """The deep slot behind `router`, with short time limits."""
    return SlotConfig(name=DEEP, url=router.url, model="qwen-macbook", connect_timeout=10.0, read_timeout=10.0)


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue of connections is full and never accepted, so the kernel drops new ones."""
    with socket.socket() as full, contextlib.ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        yield full.getsockname()[1]
