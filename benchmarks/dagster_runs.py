"""With a running `up`: how soon a slot that wakes has work, a click beside a full drain, a Dagster run per document.

What the slot saw when is in its own log. A document is known there by its fingerprint.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.ground import Ground
from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from benchmarks.slot import newest_entry, seen, slot
from dagster_offload.simulator.request_log import COMPLETIONS, fingerprint
from dagster_offload.simulator.server import Router
from dagster_offload.stages.graph import CLASSIFY, EXTRACT
from tests.support.acceptance import Home, wait_for
from tests.support.ui import UI, RequestLog, configure, home_for, start_up, text_of, write_letters

PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Running:
    """An `up` whose documents have their texts, beside a router."""

    home: Home
    router: Router
    ui: UI
    book: RequestLog

    def wait_asleep(self) -> None:
        """Until the last drain is over and a look of the sensor has seen the router red."""
        self.router.set(mode="cold")
        wait_for(lambda: self.book("select 1 from slots where breaker = 'open'") != [], "an open breaker", 120)
        wait_for(
            lambda: self.book("select 1 from workers where kind = 'drain' and ended_at is null") == [],
            "the end of the drain",
            120,
        )
        wait_for(
            lambda: self.book("select 1 from slots where was_red_since_opening") != [], "a look at a red router", 120
        )


@contextmanager
def running(documents: int, latency: float, width: int) -> Iterator[Running]:
    with slot(latency, width, is_asleep=True) as router, home_for(router) as home:
        configure(home, router, deep_concurrency=width)
        write_letters(home, *(name_of(number) for number in range(documents)))
        start_up(home)
        book = RequestLog(home)
        wait_for(lambda: book.count("done", EXTRACT) == documents, "the texts", PATIENCE_SECONDS)
        yield Running(home, router, UI(home), book)


def name_of(number: int) -> str:
    return f"letter-{number:05}.txt"


def wake(ground: Ground) -> Iterator[Row]:
    times = 20 if ground.repeats >= 3 else 5
    trials, documents = [], []
    with running(600, 0.5, 2) as up:
        # Nothing has been asked yet, so the breaker is closed: a first drain finds a router that refuses, and opens it.
        up.router.set(mode="busy")
        wait_for(lambda: up.book("select 1 from slots where breaker = 'open'") != [], "a first drain", 60)
        for number in range(times):
            up.wait_asleep()
            since = newest_entry(up.router)
            up.router.set(mode="awake")
            wait_for(partial(_has_work, up.router, since), "a document's call", 60)
            green = _first_green(up.router, since)
            trials.append(_since(green, _first(up.router, since, is_document=False)))
            documents.append(_since(green, _first(up.router, since, is_document=True)))
            ground.tell(f"{number + 1}/{times}: trial {trials[-1]:.1f} s, document {documents[-1]:.1f} s")
    raw = {"to_trial_seconds": trials, "to_document_seconds": documents}
    yield Row(
        f"wake by the sensor, green answer to a document's request, {times} times: median",
        at_most(5, "s"),
        median(documents),
        raw,
    )
    yield Row("the same: worst", at_most(8, "s"), max(documents), {})


def _has_work(router: Router, since: int) -> bool:
    return _first(router, since, is_document=True) is not None


def _first_green(router: Router, since: int) -> float:
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


CLICK_LATENCY, CLICK_WIDTH, CLICK_DOCUMENTS, CLICKS = 2.0, 4, 5_000, 3


def click(ground: Ground) -> Iterator[Row]:
    """Clicks on one stage of a document, on a slot with nothing else to do and then beside a full drain."""
    with running(CLICK_DOCUMENTS, CLICK_LATENCY, CLICK_WIDTH) as up:
        up.ui.switch_sensor("drain_sensor", on=False)
        up.router.set(mode="awake")
        last = CLICK_DOCUMENTS - 1
        alone = [_seconds_to_answer(up, name_of(last - number)) for number in range(CLICKS)]
        up.ui.switch_sensor("drain_sensor", on=True)
        wait_for(lambda: up.router.log()["open"] >= CLICK_WIDTH, "a full slot", 120)
        beside = [_seconds_to_answer(up, name_of(last - CLICKS - number)) for number in range(CLICKS)]
    ground.tell(f"alone {alone}, beside a drain {beside}")
    # Alone it is the run's start and one call; so many calls' time more it took beside the drain, and that one call.
    calls = (median(beside) - median(alone)) / CLICK_LATENCY + 1
    raw = {"alone_seconds": alone, "beside_a_drain_seconds": beside, "call_seconds": CLICK_LATENCY}
    yield Row("a click during a drain of 5,000 at full width, less run start", at_most(2, "calls"), calls, raw)


def _seconds_to_answer(up: Running, document: str) -> float:
    clicked = time.monotonic()
    up.ui.materialize(document, CLASSIFY)
    wait_for(lambda: _answer_to(up.router, document) is not None, f"the answer to {document}", 120)
    return time.monotonic() - clicked


def _answer_to(router: Router, document: str) -> dict[str, Any] | None:
    name = fingerprint(text_of(document).strip())  # a text is stripped when it is taken out of its file
    return next(
        (call for call in router.completions() if call["document"] == name and call["outcome"] == "answered"), None
    )


RUNS, DRAINED = 12, 1_500


def run_per_document(ground: Ground) -> Iterator[Row]:
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
        drained = seen(up.router, since)
        per_drain = drained.calls / 2 / drained.seconds
    raw = {"run_per_document_per_second": per_run, "drain_documents_per_second": per_drain, "runs": RUNS}
    ground.tell(f"{per_drain:.1f} / {per_run:.2f} documents/s")
    what = "documents per second, drain against one Dagster run per document"
    yield Row(what, at_least(100), per_drain / per_run, raw)


BENCHMARKS = (
    Benchmark("wake", wake),
    Benchmark("click", click),
    Benchmark("runs", run_per_document),
)
