"""What an always-on box pays for waiting: processor time and memory of a whole home while the slot is away.

Processor time is what the kernel counted for every process of the home (user and system), so other work on the machine
disturbs it far less than it disturbs a clock. Memory is each process's proportional share (PSS): shared pages count once.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from benchmarks.dagster_runs import Running, name_of, running
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.workspace import Workspace
from dagster_offload.stages.graph import SUMMARIZE
from tests.support.acceptance import Home, wait_for
from tests.support.ui import write_letters

DOCUMENTS = 27
IDLE_SECONDS, SHORT_IDLE_SECONDS = 600.0, 120.0
WAITING_RUNS = 3
WAITING_SECONDS, SHORT_WAITING_SECONDS = 300.0, 60.0
SETTLE_SECONDS = 20.0  # the work of the start, and of the first refused calls, is over by then
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Usage:
    """What the processes of a home have used by now, by role."""

    processor_seconds: Counter[str] = field(default_factory=Counter)
    memory_mb: Counter[str] = field(default_factory=Counter)
    processes: Counter[str] = field(default_factory=Counter)


def usage(home: Home) -> Usage:
    """Read /proc. A process that has ended counts in the time of the parent that waited for it."""
    found = Usage()
    for process, role in roles(home).items():
        try:
            with process.oneshot():
                times, memory = process.cpu_times(), process.memory_full_info()
        except psutil.Error:  # a connection of Postgres that just ended
            continue
        found.processor_seconds[role] += times.user + times.system + times.children_user + times.children_system
        found.memory_mb[role] += memory.pss / 2**20
        found.processes[role] += 1
    return found


def roles(home: Home) -> dict[psutil.Process, str]:
    """Every process of the home, with its role."""
    found: dict[psutil.Process, str] = {}
    for process in home.processes():
        for member in (process, *process.children(recursive=True)):
            if member not in found and (role := _role(member)) is not None:
                found[member] = role
    return found


def _role(process: psutil.Process) -> str | None:
    try:
        words, parents = process.cmdline(), [" ".join(parent.cmdline()) for parent in process.parents()]
    except psutil.Error:
        return None
    line = " ".join(words)
    if process.name().startswith("postgres"):
        return "Postgres"
    if process.name().startswith("dagster-"):  # a copy of the prefork server, with its words
        return {"dagster-webserv": "webserver", "dagster-daemon": "daemon"}[process.name()[:15]]
    # The prefork server is a copy of the code server, and runs are copies of the prefork server: same words, other parents.
    copies = sum("service.code_server" in parent for parent in parents)
    if "service.code_server" in line or copies:
        return {0: "code server", 1: "prefork server"}.get(copies, "runs")
    for word, role in (
        ("webserver", "webserver"),
        ("daemon", "daemon"),
        ("watchdog", "watchdog"),
        (" up", "supervisor"),
    ):
        if word in line:
            return role
    return "other"


@dataclass(frozen=True)
class Measured:
    """The use of a home over some seconds, by role."""

    seconds: float
    processor_seconds: dict[str, float]
    memory_mb: dict[str, float]
    processes: dict[str, int]
    transactions: int
    connections: int
    grown_bytes: int

    @property
    def raw(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def measure(up: Running, seconds: float) -> Measured:
    """Let the home run for some seconds and read what it used."""
    database, size, before, began = _database(up), home_bytes(up), usage(up.home), time.monotonic()
    time.sleep(seconds)
    after, took = usage(up.home), time.monotonic() - began
    later = _database(up)
    spent = {role: after.processor_seconds[role] - before.processor_seconds[role] for role in after.processor_seconds}
    return Measured(
        seconds=took,
        processor_seconds={role: round(value, 2) for role, value in sorted(spent.items())},
        memory_mb={role: round(value, 1) for role, value in sorted(after.memory_mb.items())},
        processes=dict(sorted(after.processes.items())),
        transactions=later["transactions"] - database["transactions"],
        connections=later["connections"] - database["connections"],
        grown_bytes=home_bytes(up) - size,
    )


def _database(up: Running) -> dict[str, int]:
    [row] = up.ledger(
        "select xact_commit + xact_rollback as transactions, sessions as connections from pg_stat_database "
        "where datname = current_database()"
    )
    return row


def home_bytes(up: Running) -> int:
    """Bytes of the home. Without the write-ahead log, whose files Postgres creates ahead and uses again."""
    [row] = up.ledger("select pg_database_size(current_database()) as bytes")
    folders = (up.home.home / "dagster", up.home.home / "logs")
    return int(row["bytes"]) + sum(_file_size(file) for folder in folders for file in folder.rglob("*"))


def _file_size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0


@contextmanager
def away(documents: int) -> Iterator[Running]:
    """A running home whose slot has refused a call and is now away."""
    with running(documents, 0.5, 2) as up:
        up.router.set(mode="busy")
        wait_for(lambda: up.ledger("select 1 from slots where breaker = 'open'") != [], "a first drain", 120)
        up.wait_asleep()
        yield up


def idle(workspace: Workspace) -> Iterator[Row]:
    seconds = IDLE_SECONDS if workspace.repeats >= 3 else SHORT_IDLE_SECONDS
    with away(DOCUMENTS) as up:
        time.sleep(SETTLE_SECONDS)
        found = measure(up, seconds)
    _report(workspace, found)
    per_ten_minutes = sum(found.processor_seconds.values()) * IDLE_SECONDS / found.seconds
    what = f"idle home, slot away, {DOCUMENTS} documents: processor time in 10 minutes"
    yield Row(what, at_most(15, "s"), per_ten_minutes, found.raw)
    yield Row("the same: memory", at_most(350, "MB"), sum(found.memory_mb.values()), {})
    grown = found.grown_bytes / 2**20 * DAY_SECONDS / found.seconds
    yield Row("the same: growth of the home in a day, before old ticks are removed", at_most(58, "MB"), grown, {})


def _report(workspace: Workspace, found: Measured) -> None:
    workspace.report(f"processor seconds {found.processor_seconds}")
    workspace.report(f"MB {found.memory_mb}, {found.transactions} transactions, {found.connections} connections")


def waiting(workspace: Workspace) -> Iterator[Row]:
    seconds = WAITING_SECONDS if workspace.repeats >= 3 else SHORT_WAITING_SECONDS
    with away(WAITING_RUNS) as up:
        _launch_and_wait(up, range(WAITING_RUNS))
        time.sleep(SETTLE_SECONDS)
        found = measure(up, seconds)
    _report(workspace, found)
    per_five_minutes = sum(found.processor_seconds.values()) * WAITING_SECONDS / found.seconds
    what = f"{WAITING_RUNS} waiting runs: processor time of the whole home in 5 minutes"
    yield Row(what, at_most(6, "s"), per_five_minutes, found.raw)
    per_run = found.memory_mb.get("runs", 0.0) / WAITING_RUNS
    yield Row("the same: memory of one waiting run", at_most(60, "MB"), per_run, {})


def wakes(workspace: Workspace) -> Iterator[Row]:
    times = 10 if workspace.repeats >= 3 else 3
    green = []
    with away(1) as up:
        for number in range(times):
            numbers = range(1 + number * WAITING_RUNS, 1 + (number + 1) * WAITING_RUNS)
            write_letters(up.home, *map(name_of, numbers))  # a drain does all that is due, so each wake needs new ones
            up.home.run("scan")
            runs = _launch_and_wait(up, numbers)
            up.wait_asleep()
            began = time.monotonic()
            up.router.set(mode="awake")
            ends = [up.ui.end_of(run, 120) for run in runs]
            green.append(time.monotonic() - began)
            assert set(ends) == {"SUCCESS"}, ends
            workspace.report(f"{number + 1}/{times}: {green[-1]:.1f} s")
            up.router.set(mode="cold")
    what = f"slot back to {WAITING_RUNS} waiting runs green, {times} times: worst"
    yield Row(what, at_most(15, "s"), max(green), {"seconds": green})
    yield Row("the same: median", at_most(15, "s"), median(green), {})


def _launch_and_wait(up: Running, numbers: range) -> list[str]:
    """Materialize one document in each of some runs; returns the runs when all of them wait for the slot."""
    runs = [up.ui.materialize(name_of(number), SUMMARIZE) for number in numbers]
    wait_for(lambda: all(up.ui.waits(run) for run in runs), "each run to wait")
    return runs


BENCHMARKS = (
    Benchmark("idle", idle),
    Benchmark("waiting", waiting),
    Benchmark("slot-back", wakes),
)
