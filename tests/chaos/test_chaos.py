"""A short `make chaos`: drains and Postgres are killed at random moments, in a small library."""

import random

import pytest

from tests.chaos.__main__ import first_scan, settle
from tests.chaos.rounds import a_drain_dies, all_drains_die, play, postgres_is_killed
from tests.chaos.world import a_world


@pytest.mark.rule("ledger-9")
def test_kills_lose_nothing_and_repeat_nothing_that_is_done() -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    with a_world(seed, letters=60) as world:
        world.changed_at_once = 20
        first_scan(world)
        for number, round_ in enumerate((postgres_is_killed, a_drain_dies, all_drains_die), start=1):
            print(play(world, number, round_))
        settle(world)
