"""One drain at three slots against drains at each of them alone, for a minute each.

The slots are stand-in routers in processes of their own: one answers after 100 ms, one after 300 ms, and one is asleep half
of the time. Each answer counts that a router sent within the minute. A slot that is asleep is looked at as often in both
cases: every two seconds.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.filling import add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_least, at_most
from benchmarks.slot import document_calls, newest_entry, slot
from benchmarks.workspace import Workspace
from dagster_offload import timing
from dagster_offload.drain import run_drain
from dagster_offload.engine.slot.launch import decide_drain
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router

CONCURRENCY = 1  # the default of a slot
SECONDS = 60.0
ASLEEP_SECONDS = 10.0  # then awake for as long, again and again
DEEP, SLOW, NIGHT = "deep", "slow", "night"
LATENCIES = {DEEP: 0.1, SLOW: 0.3, NIGHT: 0.2}
MODEL = "^simulated/"


def share_of_the_sum(workspace: Workspace) -> Iterator[Row]:
    with ExitStack() as stack:
        routers = {name: stack.enter_context(slot(latency, CONCURRENCY)) for name, latency in LATENCIES.items()}
        alone = {}
        for name in routers:
            answers, _ = _minute(workspace, {DEEP: routers[name]}, asleep=routers[NIGHT])
            alone[name] = answers[DEEP]
            workspace.report(f"{name} alone: {alone[name] / SECONDS:.1f} calls/s")
        together, forbidden = _minute(workspace, routers, asleep=routers[NIGHT])
    workspace.report(f"together: {', '.join(f'{name} {n / SECONDS:.1f}' for name, n in together.items())} calls/s")
    raw = {"seconds": SECONDS, "answers_alone": alone, "answers_together": together}
    share = sum(together.values()) / sum(alone.values())
    yield Row("three slots in one drain / the sum of each alone", at_least(0.95), share, raw)
    yield Row("answers of a slot to a stage that does not name it", at_most(0, "answers"), forbidden, raw)


def _minute(workspace: Workspace, routers: Mapping[str, Router], *, asleep: Router) -> tuple[dict[str, int], int]:
    """Drain for a minute. The answers of each slot, and how many were to a stage that it may not answer."""
    for router in routers.values():
        router.set(mode="awake")
    with workspace.home() as (home, ledger):
        settings = _settings(home.folder, home.settings, routers)
        expected = sum(CONCURRENCY / LATENCIES[name] for name in LATENCIES) * SECONDS
        add_extracted(ledger, settings, int(expected))  # twice as many calls as can be made
        analyze(ledger)
        since = {name: newest_entry(router) for name, router in routers.items()}
        until = time.monotonic() + SECONDS
        with _sleeping(asleep, until):
            counting = threading.Timer(SECONDS, _end, [routers])
            counting.start()
            _drain_until(settings, ledger, until)
            counting.join()
        answers = {name: len(document_calls(router, since[name])) for name, router in routers.items()}
        return answers, _forbidden(ledger)


def _settings(folder: Path, base: Settings, routers: Mapping[str, Router]) -> Settings:
    """The night slot may classify, and only the others may summarize."""
    slots: dict[str, Any] = {
        name: {"url": router.url, "model": f"qwen-{name}", "expected_model": MODEL, "concurrency": CONCURRENCY}
        for name, router in routers.items()
    }
    names = list(routers)
    stages = {"classify": {"slots": names}, "summarize": {"slots": [name for name in names if name != NIGHT]}}
    file = folder / "offload.yaml"
    file.write_text(json.dumps({"slots": slots, "stages": stages}), encoding="utf-8")  # JSON is YAML
    return load_settings(home=base.home, library=base.library, config=file)


def _drain_until(settings: Settings, ledger: Ledger, until: float) -> None:
    """Drain whenever the sensor would."""
    while time.monotonic() < until:
        if decide_drain(settings, ledger).launch:
            run_drain(settings, ledger)
        else:
            time.sleep(timing.current().recheck)


@contextmanager
def _sleeping(router: Router, until: float) -> Iterator[None]:
    """In the block, and at most until then, the router is awake and asleep in turn."""
    is_over = threading.Event()

    def turns() -> None:
        mode = "awake"
        while not is_over.wait(ASLEEP_SECONDS) and time.monotonic() < until:
            mode = "cold" if mode == "awake" else "awake"
            router.set(mode=mode)

    thread = threading.Thread(target=turns)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _end(routers: Mapping[str, Router]) -> None:
    for router in routers.values():
        router.set(mode="cold")


def _forbidden(ledger: Ledger) -> int:
    with ledger.transaction() as cur:
        cur.execute("select count(*) as n from results where slot = %s and stage = 'summarize'", [NIGHT])
        row = cur.fetchone()
    return 0 if row is None else int(row["n"])


BENCHMARKS = (Benchmark("several-slots", share_of_the_sum),)
