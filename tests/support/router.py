"""The stand-in router on a free port, what it does by itself, and a slot behind it."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from dagster_offload.simulator.script import Script, read_script
from dagster_offload.simulator.server import Router
from dagster_offload.slot.config import DEEP, SlotConfig
from tests.support.ports import held_port


@pytest.fixture
def router() -> Iterator[Router]:
    """An awake stand-in router that answers immediately. No other server gets its port while it is stopped."""
    with held_port() as port, Router(port) as router:
        yield router


@pytest.fixture
def deep_slot(router: Router) -> SlotConfig:
    """The deep slot behind `router`. Its time limits leave a busy machine enough time."""
    return SlotConfig(name=DEEP, url=router.url, model="qwen-macbook", connect_timeout=240.0, read_timeout=240.0)


def change_after(router: Router, *, after_answers: int = 0, after_refusals: int = 0, **changes: Any) -> None:
    """Change the behaviour at the first request after so many more answers and refusals.

    The router does it itself. A thread that waits for an answer may be too late to change the next one.
    """
    log, app = router.log(), router._app
    assert app is not None
    step = {
        "after_answers": log["answers"] + after_answers,
        "after_refusals": log["refusals"] + after_refusals,
        "set": changes,
    }
    app._script = Script(read_script([step]), now=0.0)


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
