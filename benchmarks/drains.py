"""A drain of the product, including Dagster's events, against scripts that send the same prompts.

The slot counts calls per second: from the first request it received to the last answer it sent. The two sides run in
turn, and a row's ratio is the ratio of their medians.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.filling import add_extracted, analyze
from benchmarks.prompts import write_prompts
from benchmarks.rows import Benchmark, Row, Target, at_least, median
from benchmarks.slot import RunCalls, calls_of_run, newest_entry, slot
from benchmarks.venvs import venv_python
from benchmarks.workspace import Home, Workspace
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.simulator.server import Router

LITELLM = "litellm==1.110.2"

Side = Callable[[], None]


@dataclass(frozen=True)
class Load:
    """A slot's latency (seconds) and concurrency, and how long each side runs (seconds)."""

    latency: float
    concurrency: int
    seconds: float = 12.0

    def __str__(self) -> str:
        return f"{self.latency * 1000:.0f} ms x {self.concurrency}"


def against_bare_client(load: Load, target: Target, workspace: Workspace) -> Iterator[Row]:
    yield _pair(workspace, load, f"drain / bare async client, {load}", target, sys.executable, "bare_client.py")


def against_litellm(load: Load, target: Target, workspace: Workspace) -> Iterator[Row]:
    what = f"drain / LiteLLM SDK with a semaphore, {load}"
    python = venv_python(workspace, "litellm", (LITELLM,))
    yield _pair(workspace, load, what, target, str(python), "litellm_client.py")


def _pair(workspace: Workspace, load: Load, what: str, target: Target, python: str, script: str) -> Row:
    concurrency, count = (
        load.concurrency,
        max(int(load.seconds * load.concurrency / load.latency / 2), 2 * load.concurrency),
    )
    ours, theirs = [], []
    with (
        slot(load.latency, concurrency) as router,
        workspace.home(router, deep_concurrency=concurrency) as (home, ledger),
    ):
        for turn in range(workspace.repeats):
            name = f"turn{turn}"
            add_extracted(ledger, home.settings, count, name=name)
            analyze(ledger)
            prompts = write_prompts(ledger, home.settings, home.folder / f"{name}.jsonl", name)
            ours.append(measured_calls(router, partial(drain, home)))
            theirs.append(measured_calls(router, partial(_script, python, script, router, concurrency, prompts)))
            workspace.report(f"{ours[-1].calls_per_second:.0f} / {theirs[-1].calls_per_second:.0f} calls/s")
        _refuse_unfinished(ledger, count * workspace.repeats)
    ratio = median([side.calls_per_second for side in ours]) / median([side.calls_per_second for side in theirs])
    return Row(
        what,
        target,
        ratio,
        {
            "calls_each_turn": 2 * count,
            "drain_calls_per_second": [side.calls_per_second for side in ours],
            "other_calls_per_second": [side.calls_per_second for side in theirs],
            "ideal_calls_per_second": concurrency / load.latency,
            "drain_most_open": max(side.max_open for side in ours),
        },
    )


def drain(home: Home) -> None:
    home.run("drain", "--json")


def measured_calls(router: Router, side: Side) -> RunCalls:
    since = newest_entry(router)
    side()
    return calls_of_run(router, since)


def _script(python: str, script: str, router: Router, concurrency: int, prompts: Path) -> None:
    file = Path(__file__).parent / script
    subprocess.run([python, str(file), router.url, str(concurrency), str(prompts)], check=True)


def _refuse_unfinished(ledger: Ledger, documents: int) -> None:
    """Raise `RuntimeError` if the drain left work or did not report every result to Dagster."""
    with ledger.transaction() as cur:
        cur.execute(
            "select (select count(*) from work_items where state = 'done' and stage <> 'extract') as done, "
            "(select count(*) from outbox where told_at is not null) as reported"
        )
        row = cur.fetchone()
    if row is None or row["done"] != 2 * documents or row["reported"] != 2 * documents:
        raise RuntimeError(f"expected {2 * documents} items done and reported, found {row}")


BENCHMARKS = (
    Benchmark("drain-100ms-8", partial(against_bare_client, Load(0.1, 8), at_least(0.97))),
    Benchmark("drain-250ms-32", partial(against_bare_client, Load(0.25, 32), at_least(0.97))),
    Benchmark("drain-100ms-64", partial(against_bare_client, Load(0.1, 64), at_least(0.85))),
    Benchmark("litellm-8", partial(against_litellm, Load(0.1, 8), at_least(1.2))),
    Benchmark("litellm-32", partial(against_litellm, Load(0.1, 32), at_least(1.5))),
    Benchmark("litellm-64", partial(against_litellm, Load(0.1, 64), at_least(2.5))),
)
