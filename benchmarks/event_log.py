"""Dagster's event log of a large library: bytes a document, what retention takes, and Dagster's pages before and after it.

A real scan and a real drain of 100 letters give runs and events. SQL copies them: each copy has a folder and runs of its own,
which ended 100 days ago. One drain of ten is copied twice, as after a redo. First each document is a partition, which is the
default. Then the library has 2,000 partitions (`partition_by`), so Dagster shows the old events no more.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, LiteralString

import dagster as dg
import httpx
import sqlalchemy

from benchmarks.growth import bytes_of, tables_of
from benchmarks.letters import letter
from benchmarks.pages import Site, materialize_all, web_server
from benchmarks.rows import Benchmark, Row, at_most, median
from benchmarks.slot import slot
from benchmarks.workspace import Home, Workspace
from dagster_offload.defs.history import purge_runs
from dagster_offload.defs.instance import open_instance
from dagster_offload.ledger.core.database import Connection, Ledger
from dagster_offload.library.partition_keys import MOST_PARTITIONS

DOCUMENTS = 100_000
COPIED, CHARACTERS = 100, 1_500
COPIES_A_STATEMENT = 50
AGE = timedelta(days=100)
TURNS = 5
FOLDER = "SOURCE"  # of the letters that are copied; it is in every event about them
RUNS_PAGE = """query RunsFeedRootQuery { runsFeedOrError(limit: 30, view: ROOTS) { ... on RunsFeedConnection { cursor hasMore
  results { id runStatus creationTime startTime endTime tags { key value } jobName } } }
  runsFeedCountOrError(view: ROOTS) { ... on RunsFeedCount { count } } }"""

# `COPY` names the run of copy `n`; what is about documents is in a folder `c1`, `c2` and so on.
_COPY = """cross join generate_series(%(first)s::integer, %(last)s::integer) n
    cross join lateral (select md5(r.run_id || n || %(mark)s)::uuid::text as run) new"""
_RUNS = """
    insert into runs (run_id, snapshot_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, start_time,
        end_time)
    select new.run, r.snapshot_id, r.pipeline_name, r.status, replace(r.run_body, r.run_id, new.run),
        r.create_timestamp - %(age)s, r.update_timestamp - %(age)s, r.start_time - extract(epoch from %(age)s),
        r.end_time - extract(epoch from %(age)s)
    from runs r COPY where r.run_id = any(%(runs)s) order by n"""
_RUN_TAGS = """
    insert into run_tags (run_id, key, value) select new.run, r.key, r.value
    from run_tags r COPY where r.run_id = any(%(runs)s)"""
_EVENTS = """
    insert into event_logs (run_id, dagster_event_type, timestamp, step_key, asset_key, partition, event)
    select new.run, r.dagster_event_type, r.timestamp - %(age)s, r.step_key, r.asset_key,
        replace(r.partition, %(folder)s, 'c' || n), replace(replace(r.event, r.run_id, new.run), %(folder)s, 'c' || n)
    from event_logs r COPY where r.run_id = any(%(runs)s) order by n, r.id"""
_EVENT_TAGS = """
    insert into asset_event_tags (event_id, asset_key, key, value, event_timestamp)
    select copy.id, t.asset_key, t.key, t.value, t.event_timestamp - %(age)s
    from (select r.id, new.run, r.asset_key, r.dagster_event_type, replace(r.partition, %(folder)s, 'c' || n) as partition
        from event_logs r COPY where r.run_id = any(%(runs)s) and r.partition is not null offset 0) r
    join asset_event_tags t on t.event_id = r.id
    join event_logs copy on (copy.run_id, copy.asset_key, copy.dagster_event_type, copy.partition)
        = (r.run, r.asset_key, r.dagster_event_type, r.partition)"""
_KEYS = """
    insert into dynamic_partitions (partitions_def_name, partition)
    select partitions_def_name, replace(partition, %(folder)s, 'c' || n)
    from dynamic_partitions cross join generate_series(%(first)s::integer, %(last)s::integer) n
    where starts_with(partition, %(folder)s) order by n, id"""


def event_log(workspace: Workspace, documents: int = DOCUMENTS) -> Iterator[Row]:
    what = f"{documents:,} documents"
    with _filled(workspace, documents) as (home, ledger, instance):
        found = {"bytes of Dagster's tables, a document": _bytes(ledger) / documents}
        found |= _retention(instance, home, "retention")
        found |= _retention(instance, home, "retention, the next day")
        found |= _pages(home, instance)
        _vacuum(ledger, "vacuum full analyze")
        found["bytes that retention leaves, a document"] = _bytes(ledger) / documents
        with ledger.connect() as connection:
            connection.execute("delete from offload_dagster.dynamic_partitions")
        instance.add_dynamic_partitions("documents", [f"shard-{number:04}" for number in range(MOST_PARTITIONS)])
        materialize_all(instance, ledger)
        found |= _retention(instance, home, "retention with 2,000 partitions")
        found |= {f"{page}, 2,000 partitions": seconds for page, seconds in _pages(home, instance).items()}
        _vacuum(ledger, "vacuum full analyze")
        found["bytes that retention leaves with 2,000 partitions, a document"] = _bytes(ledger) / documents
    for name, value in found.items():
        workspace.report(f"{name}: {value:,.3f}")
    longest = max(value for name, value in found.items() if "longest" in name)
    yield Row(
        f"bytes of Dagster a document, {what}",
        at_most(12_000, "B"),
        found["bytes of Dagster's tables, a document"],
        found,
    )
    yield Row(f"longest statement of retention, {what}", at_most(1, "s"), longest, found)
    yield Row(f"the page of runs, {what}", at_most(1, "s"), found["the runs"], found)


@contextmanager
def _filled(workspace: Workspace, documents: int) -> Iterator[tuple[Home, Ledger, dg.DagsterInstance]]:
    with slot(0.0, 8) as router, workspace.home(router) as (home, ledger):
        library = home.settings.library
        assert library is not None
        (library / FOLDER).mkdir()
        for number in range(COPIED):
            (library / FOLDER / f"{number}.txt").write_text(letter(number, CHARACTERS))
        home.run("scan", "--json")
        home.run("drain", "--json")
        with open_instance(home.settings) as instance:
            began = time.perf_counter()
            _copy(ledger, documents // COPIED)
            workspace.report(f"{documents:,} documents in {time.perf_counter() - began:.0f} s")
            yield home, ledger, instance


def _copy(ledger: Ledger, copies: int) -> None:
    with ledger.connect() as connection:
        connection.execute("set search_path to offload_dagster")
        runs = connection.execute("select run_id, pipeline_name from runs order by id").fetchall()
        drains = [row["run_id"] for row in runs if row["pipeline_name"] == "drain"]
        everything = [row["run_id"] for row in runs]
        for first in range(1, copies + 1, COPIES_A_STATEMENT):
            last = min(first + COPIES_A_STATEMENT - 1, copies)
            _insert(connection, everything, first, last, "", _KEYS)
            if first // COPIES_A_STATEMENT % 10 == 0:
                _insert(connection, drains, first, last, "redo")
    _vacuum(ledger)


def _insert(connection: Connection, runs: list[str], first: int, last: int, mark: str, *others: str) -> None:
    given = {"runs": runs, "first": first, "last": last, "mark": mark, "age": AGE, "folder": FOLDER}
    for statement in (_RUNS, _RUN_TAGS, _EVENTS, _EVENT_TAGS, *others):
        connection.execute(statement.replace("COPY", _COPY).encode(), given)
        connection.execute("analyze event_logs, asset_event_tags")  # for the plan of the next one


def _vacuum(ledger: Ledger, statement: LiteralString = "vacuum analyze") -> None:
    with ledger.connect() as connection:
        connection.execute(statement)


def _bytes(ledger: Ledger) -> int:
    return bytes_of(tables_of(ledger), "offload_dagster")


def _retention(instance: dg.DagsterInstance, home: Home, name: str) -> dict[str, float]:
    before, began = instance.get_runs_count(), time.perf_counter()
    with _longest_statement() as longest:
        assert purge_runs(instance, home.settings, math.inf) is None
    return {
        f"{name}: seconds": time.perf_counter() - began,
        f"{name}: longest statement": max(longest),
        f"{name}: runs before": before,
        f"{name}: runs after": instance.get_runs_count(),
    }


@contextmanager
def _longest_statement() -> Iterator[list[float]]:
    """The seconds of each statement that SQLAlchemy sends during the block."""
    seconds, engine = [0.0], sqlalchemy.engine.Engine

    def before(_connection: Any, _cursor: Any, _statement: Any, _given: Any, context: Any, _many: Any) -> None:
        context.began = time.perf_counter()

    def after(_connection: Any, _cursor: Any, _statement: Any, _given: Any, context: Any, _many: Any) -> None:
        seconds.append(time.perf_counter() - context.began)

    sqlalchemy.event.listen(engine, "before_cursor_execute", before)
    sqlalchemy.event.listen(engine, "after_cursor_execute", after)
    try:
        yield seconds
    finally:
        sqlalchemy.event.remove(engine, "before_cursor_execute", before)
        sqlalchemy.event.remove(engine, "after_cursor_execute", after)


def _pages(home: Home, instance: dg.DagsterInstance) -> dict[str, float]:
    """The median seconds of each page, after a first time that fills Dagster's cache."""
    keys = list(instance.get_dynamic_partitions("documents"))
    with web_server(home, Path(instance.root_directory)) as url, httpx.Client(base_url=url, timeout=600) as client:
        site = Site(client, keys)
        shown: dict[str, Callable[[], float]] = {
            "the runs": lambda: _seconds_of_runs(site),
            "the asset": lambda: site.seconds("the asset"),
        }
        return {name: median([page() for _ in range(TURNS + 1)][1:]) for name, page in shown.items()}


def _seconds_of_runs(site: Site) -> float:
    began = time.perf_counter()
    site.ask(RUNS_PAGE, {})
    return time.perf_counter() - began


BENCHMARKS = (Benchmark("event-log", event_log),)
