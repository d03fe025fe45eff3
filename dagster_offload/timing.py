"""How long the engine waits, in one place: pauses, time limits, leases, and how often something is looked at again.

These are no settings: the numbers depend on each other, and no deployment needs others. Tests do: they replace them
for a block with `use` (`dagster_offload.testing` has a fixture that does so).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Timing:
    """Every field is in seconds."""

    # Workers. A free lock counts as death only beside a heartbeat as old as `stale_heartbeat`, and only where Postgres,
    # which frees all locks when it restarts, has been up for `server_settled`.
    heartbeat: float = 10.0
    lease: float = 60.0
    stale_heartbeat: float = 15.0
    server_settled: float = 30.0

    # Lanes. A permit or a breaker is looked at again after `look_again` where a notification went missing.
    look_again: float = 2.0
    trial_look: float = 0.5  # the same for the trial that another worker makes
    steer: float = 1.0  # how often the concurrency of a slot is decided anew where it is found by trying
    busy_pause: float = 5.0  # after a 429 without Retry-After
    shortest_retry_after: float = 5.0  # a shorter Retry-After is lengthened to this

    # Slots. The sensor waits for a trial for at most `sensor_trial`; a drain waits as long as for any call.
    probe_limit: float = 5.0
    models_limit: float = 3.0  # for the model list, asked after the health path was missing
    sensor_trial: float = 20.0
    watch_every: float = 15.0  # between two probes beside an open call
    watch_first: float = 1.0  # until the first of them, so that a slot that freezes early is noticed too

    # How long a step of the ledger is tried again while Postgres is away. An answer that was paid for is not dropped for
    # a short outage.
    ledger_patience: float = 60.0

    # Where no extractor has ended a document for so long, what was claimed ahead is given back.
    extraction_idle: float = 2.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            if seconds < 0:
                raise ValueError(f"Timing.{name} is {seconds}: give 0 seconds or more")


_current = Timing()


def current() -> Timing:
    """The timing of this process."""
    return _current


@contextmanager
def use(timing: Timing | None = None, /, **changes: float) -> Iterator[Timing]:
    """Replace the timing of this process, all its threads included, until the end of the block.

    `changes` are fields of `Timing` that differ from `timing`, or from the current one. Processes started inside the
    block have the timing of the product.
    """
    global _current
    before = _current
    _current = replace(timing or before, **changes)
    try:
        yield _current
    finally:
        _current = before
