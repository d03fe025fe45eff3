"""Processor time of a call, of the drain's process and of Postgres together, while many calls are open.

The stand-in router runs in a process of its own, and its time does not count. An empty drain is measured first: its time is
that of the start, which does not grow with the number of calls.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.filling import add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.slot import slot
from benchmarks.workspace import Home, Workspace
from dagster_offload.ledger.core.database import Ledger

LATENCY_SECONDS, CONCURRENCY = 0.1, 64
DOCUMENTS = 2_000
CALLS_A_DOCUMENT = 2


@dataclass(frozen=True)
class Spent:
    """Processor seconds, user and system."""

    product: float
    postgres: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.product - other.product, self.postgres - other.postgres)

    def ms_a_call(self, calls: int) -> dict[str, float]:
        return {"product_ms": self.product / calls * 1000, "postgres_ms": self.postgres / calls * 1000}


def call_cost(workspace: Workspace) -> Iterator[Row]:
    calls = DOCUMENTS * CALLS_A_DOCUMENT
    whole, beyond_start = [], []
    for _ in range(workspace.repeats):
        with (
            slot(LATENCY_SECONDS, CONCURRENCY) as router,
            workspace.home(router, deep_concurrency=CONCURRENCY) as (home, ledger),
        ):
            start = spent_by_drain(home, ledger, 0)
            add_extracted(ledger, home.settings, DOCUMENTS)
            analyze(ledger)
            whole.append(spent_by_drain(home, ledger, DOCUMENTS))
            beyond_start.append(whole[-1] - start)
        workspace.report(str({name: round(ms, 2) for name, ms in beyond_start[-1].ms_a_call(calls).items()}))
    for what, measured in (("with its start", whole), ("beyond its start", beyond_start)):
        together = median([each.product + each.postgres for each in measured]) / calls * 1000
        raw = {"calls": calls, "each": [each.ms_a_call(calls) for each in measured]}
        yield Row(f"processor time of a call, {CONCURRENCY} in flight, drain {what}", at_most(1.5, "ms"), together, raw)


def spent_by_drain(home: Home, ledger: Ledger, documents: int) -> Spent:
    """The processor time of a drain's process and of Postgres. Raises `RuntimeError` if it did not do all documents."""
    before = postgres_seconds(ledger)
    process = home.start("drain", "--json", stdout=subprocess.PIPE)
    assert process.stdout is not None
    summary = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or json.loads(summary)["done"] != documents:
        raise RuntimeError(f"the drain ended with {process.returncode}: {summary}")
    return Spent(usage.ru_utime + usage.ru_stime, postgres_seconds(ledger) - before)


def postgres_seconds(ledger: Ledger) -> float:
    """The processor time of the postmaster and its processes, also of those that have ended. Linux only."""
    with psycopg.connect(ledger.conninfo) as connection:
        backend = connection.info.backend_pid
        postmaster = int(_stat(backend)[1])
        children = [int(pid) for pid in _children(postmaster)]
        ticks = sum(int(field) for field in _stat(postmaster)[11:15])
        ticks += sum(int(field) for child in children for field in _stat(child)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


BENCHMARKS = (Benchmark("call-cost", call_cost),)
