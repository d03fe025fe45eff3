"""The memory of a drain's process after the same work, with a backlog of 1,000 and of 100,000 documents."""

import subprocess
from collections.abc import Iterator

import psutil  # type: ignore[import-untyped]

from benchmarks.filling import add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.slot import slot
from benchmarks.workspace import Workspace

SMALL, LARGE = 1_000, 100_000
CONCURRENCY, LATENCY = 16, 0.05
MEASURED_ANSWERS = 1_500  # the small backlog needs 2,000, so both do the same work


def drain_memory(workspace: Workspace) -> Iterator[Row]:
    small, large = [], []
    for _ in range(workspace.repeats):
        small.append(_resident_mb(workspace, SMALL))
        large.append(_resident_mb(workspace, LARGE))
        workspace.report(f"{large[-1]:.0f} / {small[-1]:.0f} MB")
    raw = {"small_mb": small, "large_mb": large, "answers": MEASURED_ANSWERS}
    what = "memory of a drain, 100,000 against 1,000 documents"
    yield Row(what, at_most(1.2), median(large) / median(small), raw)


def _resident_mb(workspace: Workspace, documents: int) -> float:
    with slot(LATENCY, CONCURRENCY) as router, workspace.home(router, deep_concurrency=CONCURRENCY) as (home, ledger):
        add_extracted(ledger, home.settings, documents, characters=500)
        analyze(ledger)
        drain = home.start("drain", "--json", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            router.wait(answers=MEASURED_ANSWERS, timeout=300)
            return float(psutil.Process(drain.pid).memory_info().rss) / 2**20
        finally:
            drain.terminate()
            drain.wait()


BENCHMARKS = (Benchmark("memory", drain_memory),)
