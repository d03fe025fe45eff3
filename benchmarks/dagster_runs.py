"""With a running `up`: the time until a waking slot has work, a person's run beside a full drain, one run per document.

Times come from the slot's own log, which identifies a document by its fingerprint.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from benchmarks.slot import calls_of_run, newest_entry, slot
from benchmarks.workspace import Workspace
from dagster_offload.simulator.request_log import COMPLETIONS, fingerprint
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.support.acceptance import Home, wait_for
from tests.support.ledger_reader import LedgerReader
from tests.support.ui import UI, configure, home_for, text_of, write_letters

PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Running:
    """A running `up` whose documents are extracted, and its router."""

    home: Home
    router: Router
    ui: UI
    ledger: LedgerReader

    def wait_asleep(self) -> None:
        """Wait until the last drain has ended and the sensor has found the router unhealthy."""
        self.router.set(mode="cold")
        wait_for(lambda: self.ledger("select 1 from slots where breaker = 'open'") != [], "an open breaker", 120)
        wait_for(
            lambda: self.ledger("select 1 from workers where kind = 'drain' and ended_at is null") == [],
            "the end of the drain",
            120,
        )
        wait_for(
            lambda: self.ledger("select 1 from slots where was_red_since_opening") != [],
            "a probe of an unhealthy router",
            120,
        )


@contextmanager
def running(documents: int, latency: float, concurrency: int) -> Iterator[Running]:
    with slot(latency, concurrency, is_asleep=True) as router, home_for(router) as home:
        configure(home, router, deep_concurrency=concurrency)
        write_letters(home, *(name_of(number) for number in range(documents)))
        home.up()
        ledger = home.ledger
        wait_for(lambda: ledger.count("done", EXTRACT) == documents, "the texts", PATIENCE_SECONDS)
        yield Running(home, router, UI(home), ledger)


def name_of(number: int) -> str:
    return f"letter-{number:05}.txt"


def wake(workspace: Workspace) -> Iterator[Row]:
    times = 20 if workspace.repeats >= 3 else 5
    trials, documents = [], []
    with running(600, 0.5, 2) as up:
        # No call was made yet, so the breaker is closed. A first drain finds a router that refuses, and opens it.
        up.router.set(mode="busy")
        wait_for(lambda: up.ledger("select 1 from slots where breaker = 'open'") != [], "a first drain", 60)
        for number in range(times):
            up.wait_asleep()
            since = newest_entry(up.router)
            up.router.set(mode="awake")
            wait_for(partial(_has_work, up.router, since), "a document's call", 60)
            healthy = _first_healthy(up.router, since)
            trials.append(_since(healthy, _first(up.router, since, is_document=False)))
            documents.append(_since(healthy, _first(up.router, since, is_document=True)))
            workspace.report(f"{number + 1}/{times}: trial {trials[-1]:.1f} s, document {documents[-1]:.1f} s")
    raw = {"to_trial_seconds": trials, "to_document_seconds": documents}
    yield Row(
        f"wake by the sensor, healthy status to a document's request, {times} times: median",
        at_most(5, "s"),
        median(documents),
        raw,
    )
    yield Row("the same: worst", at_most(8, "s"), max(documents), {})


def _has_work(router: Router, since: int) -> bool:
    return _first(router, since, is_document=True) is not None


def _first_healthy(router: Router, since: int) -> float:
    return float(
        next(
            entry["ended"]
            for entry in router.log()["requests"]
            if entry["number"] > since and entry["path"] == "/health" and entry["status"] == 200
        )
    )


def _first(router: Router, since: int, *, is_document: bool) -> float | None:
    for entry in router.log()["requests"]:
        if entry["number"] > since and entry["path"] == COMPLETIONS and bool(entry["document"]) is is_document:
            return float(entry["started"])
    return None


def _since(begin: float, end: float | None) -> float:
    assert end is not None
    return end - begin


RUN_LATENCY, RUN_CONCURRENCY, BACKLOG, UI_RUNS = 2.0, 4, 5_000, 3


def ui_run(workspace: Workspace) -> Iterator[Row]:
    """Runs of one stage of a document, launched in the UI: first on an idle slot, then beside a full drain."""
    with running(BACKLOG, RUN_LATENCY, RUN_CONCURRENCY) as up:
        up.ui.switch_sensor("drain_sensor", on=False)
        up.router.set(mode="awake")
        last = BACKLOG - 1
        alone = [_seconds_to_answer(up, name_of(last - number)) for number in range(UI_RUNS)]
        up.ui.switch_sensor("drain_sensor", on=True)
        wait_for(lambda: up.router.log()["open"] >= RUN_CONCURRENCY, "a full slot", 120)
        beside = [_seconds_to_answer(up, name_of(last - UI_RUNS - number)) for number in range(UI_RUNS)]
    workspace.report(f"alone {alone}, beside a drain {beside}")
    # Alone, a run takes its start and one call. The difference beside the drain is counted in calls, plus that one call.
    calls = (median(beside) - median(alone)) / RUN_LATENCY + 1
    raw = {"alone_seconds": alone, "beside_a_drain_seconds": beside, "call_seconds": RUN_LATENCY}
    yield Row("a person's run beside a drain of 5,000, less the run's start", at_most(2, "calls"), calls, raw)


def _seconds_to_answer(up: Running, document: str) -> float:
    launched = time.monotonic()
    up.ui.materialize(document, CLASSIFY)
    wait_for(lambda: _answer_to(up.router, document) is not None, f"the answer to {document}", 120)
    return time.monotonic() - launched


def _answer_to(router: Router, document: str) -> dict[str, Any] | None:
    name = fingerprint(text_of(document).strip())  # extraction strips the text
    return next(
        (call for call in router.completions() if call["document"] == name and call["outcome"] == "answered"), None
    )


RUNS, DRAINED = 12, 1_500


def run_per_document(workspace: Workspace) -> Iterator[Row]:
    with running(RUNS + DRAINED, 0.1, 64) as up:
        up.ui.switch_sensor("drain_sensor", on=False)
        up.router.set(mode="awake")
        began = time.monotonic()
        runs = [up.ui.materialize(name_of(number)) for number in range(RUNS)]
        ends = [up.ui.end_of(run, 300) for run in runs]
        per_run = RUNS / (time.monotonic() - began)
        assert set(ends) == {"SUCCESS"}, ends
        since = newest_entry(up.router)
        up.home.run("drain", "--json", seconds=600)
        drained = calls_of_run(up.router, since)
        per_drain = drained.calls / 2 / drained.seconds
    raw = {"run_per_document_per_second": per_run, "drain_documents_per_second": per_drain, "runs": RUNS}
    workspace.report(f"{per_drain:.1f} / {per_run:.2f} documents/s")
    what = "documents per second, drain against one Dagster run per document"
    yield Row(what, at_least(100), per_drain / per_run, raw)


BENCHMARKS = (
    Benchmark("wake", wake),
    Benchmark("ui-run", ui_run),
    Benchmark("runs", run_per_document),
)
