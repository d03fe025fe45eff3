"""Stages of a person's own on a large ledger: adding one while a drain works, and claims while many documents wait for
another stage of theirs.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.filling import add_done, add_extracted, analyze
from benchmarks.rows import Benchmark, Row, at_least, at_most, median
from benchmarks.sizes import LARGE, SMALL, TURNS, seconds_a_claim
from benchmarks.slot import calls_of_run, newest_entry, slot
from benchmarks.workspace import Home, Workspace, options_of
from dagster_offload.drain import run_drain
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.slots import slots
from dagster_offload.settings import Settings, load_settings
from dagster_offload.simulator.server import Router
from dagster_offload.stages.catalog import stage_graph

PAYMENT = """
stages:
  payment:
    prompt: What must be paid, to whom, and by when?
    answer: {payee: string, amount: number, due: {type: date, optional: true}}
    when: {classify: {category: [contract, invoice]}}
"""
DOCUMENTS = 1_000_000
DUE = 2_000
LATENCY, CONCURRENCY = 0.25, 8
LOOK_EVERY_SECONDS = 0.02


@dataclass
class Statements:
    """The longest observed time of each statement of the ledger's processes, in seconds."""

    longest: dict[str, float] = field(default_factory=dict)

    @property
    def worst(self) -> list[tuple[str, float]]:
        return sorted(self.longest.items(), key=lambda entry: -entry[1])[:8]


@contextmanager
def observed(ledger: Ledger) -> Iterator[Statements]:
    """Look at the statements that run in the database, fifty times a second, until the end of the block."""
    seen, is_over = Statements(), threading.Event()

    def look() -> None:
        with ledger.connect() as connection:
            while not is_over.wait(LOOK_EVERY_SECONDS):
                running = connection.execute(
                    "select left(query, 300) as query, "
                    "extract(epoch from clock_timestamp() - query_start)::double precision as seconds "
                    "from pg_stat_activity where state = 'active' and backend_type = 'client backend' "
                    "and datname = current_database() and pid <> pg_backend_pid()"
                )
                for row in running.fetchall():
                    seen.longest[row["query"]] = max(seen.longest.get(row["query"], 0.0), row["seconds"])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def with_payment(home: Home) -> Settings:
    """The settings of a home with the stage `payment`."""
    file: Path = home.folder / "offload.yaml"
    file.write_text(PAYMENT)
    return load_settings(**options_of(home.settings), config=file)


def added_stage(workspace: Workspace, documents: int = DOCUMENTS) -> Iterator[Row]:
    """The drain that follows the edit creates the items of all documents beside its calls."""
    with slot(LATENCY, CONCURRENCY) as router, workspace.home(router, deep_concurrency=CONCURRENCY) as (home, ledger):
        workspace.report(f"making a ledger of {documents:,} documents")
        add_done(ledger, home.settings, documents - DUE)
        add_extracted(ledger, home.settings, DUE, characters=1_500)
        analyze(ledger)
        alone = _calls_per_second(home.settings, ledger, router)
        settings = with_payment(home)
        with observed(ledger) as statements:
            began = time.perf_counter()
            with open_ledger(settings) as edited:
                beside = _calls_per_second(settings, edited, router)
            seconds = time.perf_counter() - began
            with_stage = Home(home.folder, settings)
            with_stage.run("status", "--json")
    worst = [{"seconds": longest, "statement": query} for query, longest in statements.worst]
    what = f"a stage added to {documents:,} documents"
    yield Row(
        f"{what}, while a drain works: longest statement", at_most(1.0, "s"), statements.worst[0][1], {"worst": worst}
    )
    rates = {"alone_calls_per_second": alone, "beside_calls_per_second": beside}
    yield Row(f"{what}: calls of the drain meanwhile / before", at_least(0.7), beside / alone, rates)
    yield Row(f"{what}: until all have their item", at_most(600, "s"), seconds, {})


def _calls_per_second(settings: Settings, ledger: Ledger, router: Router) -> float:
    since = newest_entry(router)
    run_drain(settings, ledger, limit=DUE // 4)
    return calls_of_run(router, since).calls_per_second


def blocked_claims(workspace: Workspace, items: int = LARGE) -> Iterator[Row]:
    """A claim while documents wait for a stage that is done again, in a small and in a large ledger."""
    seconds = {}
    for size in (SMALL, items):
        with slot(0.1, 1, is_asleep=True) as router, workspace.home(router) as (home, _):
            settings = with_payment(home)
            with open_ledger(settings) as ledger:
                add_done(ledger, home.settings, size // 4)
                ledger.run(_redo_both)
                analyze(ledger)
                assert settings.slots.deep is not None
                ledger.run(slots.register, settings.slots.deep)
                drain_stages = stage_graph(settings).drain_stages
                seconds[size] = median([seconds_a_claim(ledger, settings, drain_stages) for _ in range(TURNS)])
    what = f"a claim while all documents wait for another stage, {items:,} against {SMALL:,} work items"
    yield Row(what, at_most(1.3), seconds[items] / seconds[SMALL], {f"{n}_items_s": s for n, s in seconds.items()})


def _redo_both(cur: Cursor) -> None:
    """Make the class of every document due again, and the record that depends on it."""
    cur.execute(
        "insert into work_items (document_id, stage, state, input_digest, is_redo) "
        "select document_id, 'payment', 'pending', input_digest, true from work_items where stage = 'classify' "
        "order by document_id"
    )
    cur.execute("update work_items set state = 'pending', is_redo = true where stage = 'classify'")
    cur.execute("update stages set filled_to = null")


BENCHMARKS = (Benchmark("added stage", added_stage), Benchmark("blocked claims", blocked_claims))
