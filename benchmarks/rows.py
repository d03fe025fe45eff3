"""A row of the table: the measured value, its target, and the raw figures."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace


@dataclass(frozen=True)
class Target:
    """A lower or upper bound in a unit (`x` is a ratio)."""

    bound: float
    unit: str
    is_at_least: bool

    def is_met(self, measured: float) -> bool:
        return measured >= self.bound if self.is_at_least else measured <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.is_at_least else '<='} {shown(self.bound, self.unit)}"


def at_least(bound: float, unit: str = "x") -> Target:
    return Target(bound, unit, True)


def at_most(bound: float, unit: str = "x") -> Target:
    return Target(bound, unit, False)


@dataclass(frozen=True)
class Row:
    """One row. `raw` has the figures behind `measured`, with units in their names."""

    what: str
    target: Target
    measured: float
    raw: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        return self.target.is_met(self.measured)


@dataclass(frozen=True)
class Benchmark:
    """A name that ARGS can select, and the function that measures its rows."""

    name: str
    measure: Callable[["Workspace"], Iterator[Row]]


def shown(value: float, unit: str) -> str:
    """A value with its unit, rounded for the table."""
    digits = 2 if abs(value) < 10 else 0
    return f"{value:.{digits}f}{'' if unit == 'x' else ' '}{unit}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
