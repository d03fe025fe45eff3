"""`python -m tests.chaos --rounds 100 [--seed N]`, started by `make chaos`. Exits with 1 at the first broken promise."""

import argparse
import collections
import json
import random
import sys
import time

from tests.chaos.library import MARK
from tests.chaos.promises import (
    AFTER_ALL_HAVE_ENDED,
    AFTER_THE_DEAD_ARE_RECLAIMED,
    ALWAYS,
    AT_THE_END,
    check,
    check_calls,
)
from tests.chaos.rounds import LOCK_WAIT_SECONDS, NO_FAULT, WEIGHTS, Round, play
from tests.chaos.world import PERMITS, BrokenPromise, World, a_world

LETTERS = 300
LOG_LINES = 40


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    given = options.parse_args()
    print(f"chaos: {given.rounds} rounds, seed {given.seed}", flush=True)
    began = time.monotonic()
    with a_world(given.seed, LETTERS) as world:
        try:
            run(world, given.rounds)
        except Exception as error:  # noqa: BLE001 - print the facts for every error
            print_facts(world, given.seed, error)
            sys.exit(1)
        print_figures(world, given.rounds, given.seed, time.monotonic() - began)


def run(world: World, rounds: int) -> None:
    """Play all rounds, then check that everything is done, nothing is held and nothing is lost. Raises `BrokenPromise`."""
    first_scan(world)
    for number, round_ in enumerate(chosen(world.rng, rounds), start=1):
        print(f"{number:4} {play(world, number, round_)}", flush=True)
    settle(world)


def first_scan(world: World) -> None:
    """Scan the new library. Raises `BrokenPromise` if the scan does not exit with 0."""
    if (code := world.finish(world.start("scan"), LOCK_WAIT_SECONDS)) != 0:
        raise BrokenPromise(f"the first scan exits with 0, not {code}")


def chosen(rng: random.Random, rounds: int) -> list[Round]:
    """The rounds to play: each kind as often as its weight, in random order."""
    by_weight = [round_ for round_, weight in WEIGHTS.items() for _ in range(weight)]
    whole, rest = divmod(rounds, len(by_weight))
    found = by_weight * whole + rng.sample(by_weight, rest)
    rng.shuffle(found)
    return found


def settle(world: World) -> None:
    """With an awake slot and no more kills, work until everything is done, then check every promise."""
    world.slot.set(**NO_FAULT)
    world.finish(world.start("scan"), LOCK_WAIT_SECONDS)
    deadline = time.monotonic() + 4 * LOCK_WAIT_SECONDS
    while True:
        world.let_the_dead_look_dead()
        world.let_every_wait_be_over()
        world.finish(world.start("drain"), 4 * LOCK_WAIT_SECONDS)
        [row] = world.sql("select count(*) as n from work_items where state in ('pending', 'claimed', 'deferred')")
        held = any(world.sql(query) for query in AFTER_THE_DEAD_ARE_RECLAIMED.values())
        if (row["n"] == 0 and not held) or time.monotonic() > deadline:
            break
    for promises in (ALWAYS, AFTER_ALL_HAVE_ENDED, AFTER_THE_DEAD_ARE_RECLAIMED, AT_THE_END):
        check(world, promises)
    check_calls(world)
    logs_with_text = [log for log in world.home.folder.rglob("*.log") if MARK in log.read_text(errors="replace")]
    if logs_with_text or MARK in world.home.said:
        raise BrokenPromise("no log holds document text", [{"log": str(log)} for log in logs_with_text])


def print_figures(world: World, rounds: int, seed: int, seconds: float) -> None:
    answers, repeats = check_calls(world)
    kinds = collections.Counter(kill.what for kill in world.kills)
    [row] = world.sql(
        "select (select count(*) from documents where is_present) as documents, "
        "(select count(*) from results where superseded_at is null) as results, "
        "(select count(*) from results where superseded_at is not null) as doubled, "
        "(select count(*) from outbox) as events, (select count(*) from calls) as calls"
    )
    print(
        f"chaos: {rounds} rounds, seed {seed}, {seconds / 60:.0f} min: lost 0, doubled 0\n"
        f"  kills {sum(kinds.values())}: " + ", ".join(f"{what} {n}" for what, n in kinds.most_common()) + "\n"
        f"  answers {answers}, of which repeats {repeats}; calls that were open at the kills {open_calls(world)}, "
        f"bound {sum(kill.workers for kill in world.kills) * PERMITS}\n"
        f"  drains that Dagster ended because Postgres was unavailable for long: {world.ended_by_dagster}\n"
        f"  ledger: {json.dumps(row)}",
        flush=True,
    )


def open_calls(world: World) -> int:
    return sum(kill.open_calls for kill in world.kills)


def print_facts(world: World, seed: int, error: Exception) -> None:
    """Print what a person needs to find the cause. Logs contain no document text."""
    print(f"\nBROKEN in round {world.round_number}, seed {seed}: {type(error).__name__}: {error}")
    for kill in world.kills[-5:]:
        print(f"  killed: {kill}")
    for row in getattr(error, "rows", [])[:20]:
        print(f"  row: {json.dumps(row, default=str, ensure_ascii=False)}")
    logs = [world.home.folder / "said", *sorted(world.home.home.rglob("*.log"))]
    for log in logs:
        if log.exists():
            print(f"--- {log}")
            print("\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]))
    if not isinstance(error, BrokenPromise):
        raise error


if __name__ == "__main__":
    main()
