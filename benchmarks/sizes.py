"""A ledger of a million work items against one of a thousand: a claim, a tick of the drain sensor, `status`.

In both ledgers seven of ten documents are done, and the other three wait for both LLM stages.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.filling import add_done, add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.slot import slot
from benchmarks.workspace import Home, Workspace
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.slots import slots
from dagster_offload.ledger.work import claims
from dagster_offload.settings import Settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.catalog import recipes
from tests.support.stages import DRAIN_STAGES

ITEMS_A_DOCUMENT = 3
SMALL, LARGE = 1_000, 1_000_000
PARTITIONS = 100_000
CLAIMS_A_TURN = 50
TURNS = 6
TICKS = 15
STATUS_CALLS = 5


@dataclass(frozen=True)
class Sized:
    """A ledger of a given size, and a router that sleeps."""

    home: Home
    ledger: Ledger
    router: Router


@contextmanager
def sized(workspace: Workspace, items: int) -> Iterator[Sized]:
    with slot(0.1, 1, is_asleep=True) as router, workspace.home(router) as (home, ledger):
        documents = items // ITEMS_A_DOCUMENT
        if items >= LARGE:
            workspace.report(f"making a ledger of {items:,} work items")
        add_done(ledger, home.settings, documents * 7 // 10)
        add_extracted(ledger, home.settings, documents * 3 // 10, characters=0)
        analyze(ledger)
        deep = home.settings.slots.deep
        assert deep is not None
        ledger.run(slots.register, deep)
        yield Sized(home, ledger, router)


def both(workspace: Workspace, large: int = LARGE) -> tuple[Sized, Sized]:
    """A small and a large ledger, created once for all rows that need them."""

    def make(stack: ExitStack) -> tuple[Sized, Sized]:
        return stack.enter_context(sized(workspace, SMALL)), stack.enter_context(sized(workspace, large))

    return workspace.shared(f"ledgers of {SMALL} and {large} items", make)


def claims_per_second(workspace: Workspace, items: int = LARGE) -> Iterator[Row]:
    small, large = both(workspace, items)
    seconds: dict[str, list[float]] = {"small": [], "large": []}
    for _ in range(TURNS):
        for name, one in (("small", small), ("large", large)):
            seconds[name].append(seconds_a_claim(one.ledger, one.home.settings, DRAIN_STAGES))
    figures = {f"{name}_claims_per_second": [1 / each for each in found] for name, found in seconds.items()}
    ratio = median(seconds["large"]) / median(seconds["small"])
    yield Row(f"a claim, {items:,} against {SMALL:,} work items in the ledger", at_most(1.3), ratio, figures)


def seconds_a_claim(ledger: Ledger, settings: Settings, stages: Sequence[str]) -> float:
    """Claim documents one by one, and return the mean time of a claim. All are released at the end."""
    with Worker(ledger, "drain", tuple(stages)) as worker:
        began = time.perf_counter()
        for _ in range(CLAIMS_A_TURN):
            assert ledger.run(claims.take, worker.id, stages, recipes(settings), count=1, slot="deep")
        return (time.perf_counter() - began) / CLAIMS_A_TURN  # the claims are released when the worker ends


def tick(workspace: Workspace) -> Iterator[Row]:
    small, large = both(workspace)
    with ExitStack() as stack:
        small_tick = stack.enter_context(sensor_ticks(small, SMALL // ITEMS_A_DOCUMENT))
        large_tick = stack.enter_context(sensor_ticks(large, PARTITIONS))
        pairs = [(small_tick(), large_tick()) for _ in range(TICKS + 2)][2:]  # the first two import and connect
    small_ms, large_ms = ([1000 * pair[side] for pair in pairs] for side in (0, 1))
    raw = {"small_ms": small_ms, "large_ms": large_ms, "partitions": PARTITIONS}
    what = "a tick of the drain sensor, 1 M items and 100 k partitions"
    yield Row(f"{what}, against 1 k items", at_most(1.5), median(large_ms) / median(small_ms), raw)
    yield Row(f"{what}: median", at_most(200, "ms"), median(large_ms), {})


@contextmanager
def sensor_ticks(one: Sized, partitions: int) -> Iterator[Callable[[], float]]:
    """A function that evaluates the sensor as the daemon does, and returns the seconds it took."""
    import dagster as dg

    from dagster_offload.definitions import build_definitions
    from dagster_offload.defs.instance import open_instance

    definitions = build_definitions(settings_loader=lambda: one.home.settings)
    repository = definitions.get_repository_def()
    with open_instance(one.home.settings) as instance:
        instance.add_dynamic_partitions("documents", [f"{number}.txt" for number in range(partitions)])

        def evaluate() -> float:
            context = dg.build_sensor_context(instance=instance, repository_def=repository)
            began = time.perf_counter()
            answer = repository.get_sensor_def("drain_sensor").evaluate_tick(context)
            assert "health probe reports" in (answer.skip_message or ""), answer.skip_message
            return time.perf_counter() - began

        yield evaluate


def status(workspace: Workspace) -> Iterator[Row]:
    _, large = both(workspace)
    seconds = []
    for _ in range(STATUS_CALLS):
        began = time.perf_counter()
        large.home.run("status", "--json")
        seconds.append(time.perf_counter() - began)
    yield Row("`status --json` on a ledger of 1 M items", at_most(1, "s"), median(seconds), {"seconds": seconds})


BENCHMARKS = (Benchmark("claims", claims_per_second), Benchmark("tick", tick), Benchmark("status", status))
