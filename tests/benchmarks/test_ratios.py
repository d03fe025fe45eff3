"""A small selection of `make bench` as a guard: a ratio against something measured in the same minute, never a time.

Each target is held to 0.85 of itself, for noise. Retried once, because a machine may be busy with something else for a
moment.
"""

import pytest

from benchmarks import guards
from benchmarks.ground import Ground
from benchmarks.rows import Benchmark, Row, Target

ROOM = 0.85


def loosened(target: Target) -> Target:
    bound = target.bound * ROOM if target.is_at_least else target.bound / ROOM
    return Target(bound, target.unit, target.is_at_least)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("benchmark", guards.BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_no_ratio_falls_behind_its_target(benchmark: Benchmark) -> None:
    with Ground(repeats=1) as ground:
        missed = _missed(list(benchmark.measure(ground)))
        if missed:
            missed = _missed(list(benchmark.measure(ground)))
    assert not missed


def _missed(rows: list[Row]) -> list[str]:
    return [
        f"{row.what}: {row.measured:.2f}, wanted {loosened(row.target)}"
        for row in rows
        if not loosened(row.target).is_met(row.measured)
    ]
