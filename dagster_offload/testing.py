"""Fixtures for tests of your own pipeline: a stand-in router on a real port, and an engine with short pauses.

Add the plugin to your `conftest.py`:

    pytest_plugins = ["dagster_offload.testing"]

The fixtures: `stand_in_router` is a `Router` that answers like a slot, `fast_timing` shortens the pauses of the engine,
and `change_timing` changes single waits. Needs pytest. No module of the product imports this one.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from dagster_offload.simulator import Router
from dagster_offload.timing import Timing, use

__all__ = ["FAST", "ChangeTiming", "Router", "Timing", "change_timing", "fast_timing", "stand_in_router"]

ChangeTiming = Callable[..., Timing]

FAST = Timing(
    heartbeat=0.1,
    recheck=0.05,
    trial_recheck=0.05,
    steer=0.05,
    busy_pause=0.01,
    shortest_retry_after=0.01,
    extraction_idle=0.05,
)
"""Short pauses. Time limits and leases stay as they are: a busy machine would break them."""


@pytest.fixture
def stand_in_router() -> Iterator[Router]:
    """A stand-in router that is awake and answers at once. Use `stand_in_router.url` as OFFLOAD_DEEP_URL.

    Change it with `set`: after `stand_in_router.set(mode="cold")` it refuses every request, as a router does whose slot is
    unavailable.
    """
    with Router() as router:
        yield router


@pytest.fixture
def fast_timing() -> Iterator[Timing]:
    """Replace the timing of this process with `FAST` until the end of the test."""
    with use(FAST) as timing:
        yield timing


@pytest.fixture
def change_timing() -> Iterator[ChangeTiming]:
    """`change_timing(busy_pause=0.5)` replaces fields of `Timing` in this process until the end of the test."""
    with ExitStack() as until_the_end:

        def change(**fields: float) -> Timing:
            return until_the_end.enter_context(use(**fields))

        yield change
