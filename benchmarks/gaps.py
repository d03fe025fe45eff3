"""How long the slot waits for a request: at concurrency 1, from each answer it sent to the next request it received."""

from collections.abc import Iterator

from benchmarks.drains import drain
from benchmarks.filling import add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_most, median, percentile
from benchmarks.slot import gaps, newest_entry, slot
from benchmarks.workspace import Workspace

ANSWER_SECONDS = 2.0
DOCUMENTS = 20


def idle_gap(workspace: Workspace) -> Iterator[Row]:
    with slot(ANSWER_SECONDS, 1) as router, workspace.home(router, deep_concurrency=1) as (home, ledger):
        add_extracted(ledger, home.settings, DOCUMENTS, characters=8_000)
        analyze(ledger)
        since = newest_entry(router)
        drain(home)
        milliseconds = [1000 * gap for gap in gaps(router, since)]
    raw = {"gaps_ms": milliseconds, "answer_seconds": ANSWER_SECONDS}
    yield Row(
        "idle gap of the slot at concurrency 1, 2 s per answer: median", at_most(20, "ms"), median(milliseconds), raw
    )
    yield Row("the same: 95th percentile", at_most(100, "ms"), percentile(milliseconds, 95), {})


BENCHMARKS = (Benchmark("gap", idle_gap),)
