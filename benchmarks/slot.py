"""The slot: the stand-in router with fixed latency and concurrency, in a process of its own, with its log and its clock."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dagster_offload.simulator.server import Router


@contextmanager
def slot(latency_seconds: float, concurrency: int, *, is_asleep: bool = False) -> Iterator[Router]:
    """Start a stand-in router and yield its client."""
    options = [
        "--latency",
        str(latency_seconds),
        "--concurrency",
        str(concurrency),
        *(["--asleep"] if is_asleep else []),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster_offload.cli", "simulate-router", "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield Router(port=int(line.partition(" (")[0].rpartition(":")[2]))
    finally:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class RunCalls:
    """The document calls of one run, from the slot's log."""

    calls: int
    seconds: float  # from the first request received to the last answer sent
    max_open: int

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds


def document_calls(router: Router, since: int) -> list[dict[str, Any]]:
    """The answered completions about a document after the log's entry number `since`, in order of their start."""
    calls = [entry for entry in router.completions() if entry["number"] > since and entry["document"]]
    return sorted((call for call in calls if call["outcome"] == "answered"), key=lambda call: call["started"])


def newest_entry(router: Router) -> int:
    """The number of the newest entry in the router's log; 0 if it is empty."""
    return max((entry["number"] for entry in router.log()["requests"]), default=0)


def calls_of_run(router: Router, since: int) -> RunCalls:
    calls = document_calls(router, since)
    started, ended = min(call["started"] for call in calls), max(call["ended"] for call in calls)
    return RunCalls(len(calls), ended - started, _most_open(calls))


def gaps(router: Router, since: int) -> list[float]:
    """At concurrency 1: the seconds from each answer sent to the next request received."""
    calls = document_calls(router, since)
    return [later["started"] - earlier["ended"] for earlier, later in pairwise(calls)]


def _most_open(calls: list[dict[str, Any]]) -> int:
    ends = sorted([(call["started"], 1) for call in calls] + [(call["ended"], -1) for call in calls])
    count = most = 0
    for _, change in ends:
        count += change
        most = max(most, count)
    return most
