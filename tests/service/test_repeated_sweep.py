"""`up` looks for dead runs every hour, and after the clock was set back."""

from typing import Any

import pytest

from dagster_offload.service.repeated_sweep import AFTER_SET_BACK_SECONDS, EVERY_SECONDS, RepeatedSweep

HOUR = 3600.0


class World:
    """Two clocks that a test moves, and processes that a test ends."""

    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.set_to = 1_800_000_000.0  # what the wall clock is ahead of the other
        self.exit_code: int | None = 0
        self.error: OSError | None = None
        self.started = 0
        self.sweep = RepeatedSweep(
            self._start, monotonic=lambda: self.monotonic, wall_clock=lambda: self.monotonic + self.set_to
        )

    def _start(self) -> Any:
        if self.error is not None:
            raise self.error
        self.started += 1
        return self

    def poll(self) -> int | None:
        return self.exit_code

    def after(self, seconds: float) -> int:
        """Let this time pass, and check. Returns how many sweeps were started so far."""
        self.monotonic += seconds
        self.sweep.check()
        return self.started


@pytest.fixture
def world() -> World:
    return World()


def test_it_sweeps_every_hour(world: World) -> None:
    assert [world.after(seconds) for seconds in (EVERY_SECONDS - 1, 1, 1, EVERY_SECONDS)] == [0, 1, 1, 2]


def test_it_does_not_start_a_second_sweep_beside_one_that_runs(world: World) -> None:
    world.exit_code = None
    assert [world.after(EVERY_SECONDS), world.after(EVERY_SECONDS)] == [1, 1]
    world.exit_code = 0
    assert world.after(1) == 2


def test_it_sweeps_soon_after_the_clock_was_set_back(world: World) -> None:
    world.set_to -= HOUR
    assert [world.after(1), world.after(AFTER_SET_BACK_SECONDS), world.after(AFTER_SET_BACK_SECONDS)] == [0, 1, 1]


def test_a_clock_that_was_set_forward_starts_no_sweep(world: World) -> None:
    world.set_to += HOUR
    assert [world.after(1), world.after(AFTER_SET_BACK_SECONDS)] == [0, 0]


def test_a_sweep_that_cannot_be_started_is_tried_again(world: World) -> None:
    world.error = OSError("Cannot allocate memory")
    assert world.after(EVERY_SECONDS) == 0
    world.error = None
    assert [world.after(1), world.after(AFTER_SET_BACK_SECONDS)] == [0, 1]
