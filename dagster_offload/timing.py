"""All waits of the engine: pauses, time limits, leases, and intervals between checks.

These are not settings: the numbers depend on each other, and no deployment needs other ones. Tests do, and replace them
for a block with `use` (`dagster_offload.testing` has a fixture for that).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Timing:
    """Every field is in seconds."""

    # Workers. A worker whose lock is free is dead only if its heartbeat is at least `stale_heartbeat` old and Postgres,
    # which frees all locks when it restarts, has been up for `server_settled`.
    heartbeat: float = 10.0
    lease: float = 60.0
    stale_heartbeat: float = 15.0
    server_settled: float = 30.0

    # Lanes. `recheck` is the interval at which permits and breakers are checked, in case a notification was lost.
    recheck: float = 2.0
    trial_recheck: float = 0.5  # the same for a trial that another worker runs
    steer: float = 1.0  # how often a slot's concurrency is decided, if it is automatic
    busy_pause: float = 5.0  # after a 429 without Retry-After
    make_way: float = 5.0  # how often a lane that reads a long document looks for shorter ones
    lane_back: float = 60.0  # without a 429, until a lane is opened again, if the concurrency is fixed
    shortest_retry_after: float = 5.0  # a shorter Retry-After is raised to this

    # Slots. The sensor waits at most `sensor_trial` for a trial; a drain waits as long as for any call.
    probe_limit: float = 5.0
    models_limit: float = 3.0  # for the model list, which is requested if the health path is missing
    sensor_trial: float = 20.0
    wake_shown: float = 1.0  # how long a sensor's tick waits for a wake to end, to show how it ended
    watch_every: float = 15.0  # between two probes during an open call
    watch_first: float = 1.0  # before the first of them, so that a slot that freezes early is noticed too

    # How long a ledger transaction is retried while Postgres is unavailable and no answer waits to be stored.
    ledger_patience: float = 60.0

    # How long a step of the job `extract` tries to reach Postgres after `ledger_patience`, before it fails.
    cut_off: float = 900.0

    # How long a process waits for the running `up` to take over the settings that the process already has. `up` looks
    # for an edit every two seconds.
    take_over: float = 8.0

    login_pause: float = 1.0  # after a wrong password at the UI

    # If no extractor finishes a document for this long, documents that were claimed ahead are released.
    extraction_idle: float = 2.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            if seconds < 0:
                raise ValueError(f"Timing.{name} is {seconds}: it must be 0 seconds or more")


_current = Timing()


def current() -> Timing:
    """The timing of this process."""
    return _current


@contextmanager
def use(timing: Timing | None = None, /, **changes: float) -> Iterator[Timing]:
    """Replace the timing of this process and all its threads until the end of the block.

    `changes` are fields of `Timing` that differ from `timing`, or from the current one. Processes started inside the
    block use the default timing.
    """
    global _current
    before = _current
    _current = replace(timing or before, **changes)
    try:
        yield _current
    finally:
        _current = before
