"""Ten thousand documents while the slot is away half of the time: what grows in the processes, the tables and the home.

A real `up` with its sensors drains them. Memory is each process's proportional share (PSS), read while nothing runs, before the
first call and after the last.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from benchmarks.dagster_runs import Running, running
from benchmarks.guest import Usage, home_bytes, usage
from benchmarks.rows import Benchmark, Row, at_most
from benchmarks.workspace import Workspace
from tests.support.acceptance import wait_for
from tests.support.ui import answered

DOCUMENTS, FEW_DOCUMENTS = 10_000, 1_000
CONCURRENCY, LATENCY = 16, 0.05
PERIOD_SECONDS = 30.0  # awake, then away for as long
SETTLE_SECONDS = 20.0
LONGEST_SECONDS = 5_400.0  # then the rows are about what was done until then
CALLS_A_DOCUMENT = 2
SENSORS, SHORTEST_TICK_SECONDS = 2, 5.0
LONGEST_TICK_SECONDS = 60.0  # the default of OFFLOAD_SCAN_INTERVAL


def endurance(workspace: Workspace) -> Iterator[Row]:
    documents = DOCUMENTS if workspace.repeats >= 3 else FEW_DOCUMENTS
    with running(documents, LATENCY, CONCURRENCY) as up:
        yield from measured(workspace, up, documents)


def measured(workspace: Workspace, up: Running, documents: int) -> Iterator[Row]:
    """The rows of a running home whose documents are extracted and whose slot was away until now."""
    before, empty_bytes, ticks_before, began = _usage_at_rest(up), _sizes(up), _ticks(up), time.monotonic()
    _drain_with_pauses(workspace, up, documents)
    after, full_bytes = _usage_at_rest(up), _sizes(up)
    seconds, ticks, drains = time.monotonic() - began, _ticks(up), _count(up, _DRAINS)
    calls = CALLS_A_DOCUMENT * documents - _left(up)
    done = calls / CALLS_A_DOCUMENT
    # Dagster removes a skipped tick after a day, at the next tick of the same sensor.
    up.ledger("update offload_dagster.job_ticks set timestamp = timestamp - interval '2 days' returning id")
    with suppress(AssertionError):  # the row below says how many are left
        wait_for(lambda: _old_skipped_ticks(up) == 0, "the removal of old ticks", 3 * LONGEST_TICK_SECONDS)
    times = answered(up.router)
    workspace.report(f"{seconds:.0f} s, {drains} drains; MB before {_rounded(before)}, after {_rounded(after)}")

    what = f"{done:,.0f} documents, slot away half of the time"
    raw = {"seconds": seconds, "drains": drains, "before_mb": _rounded(before), "after_mb": _rounded(after)}
    growth = {role: after.memory_mb[role] / before.memory_mb[role] for role in before.memory_mb if role in _LASTING}
    yield Row(f"{what}: growth of the process that grew most", at_most(1.25), max(growth.values()), raw | growth)
    yield Row("the same: memory of all processes at the end", at_most(450, "MB"), sum(after.memory_mb.values()), {})
    for name, most in (("ledger", 14_000), ("dagster", 14_000), ("home", 32_000)):
        raw = {"before_bytes": empty_bytes[name], "after_bytes": full_bytes[name]}
        yield Row(f"the same: bytes per document, {name}", at_most(most, "B"), full_bytes[name] / done, raw)
    most_ticks = SENSORS * seconds / SHORTEST_TICK_SECONDS
    raw = {"ticks_before": ticks_before, "ticks": ticks}
    yield Row(
        "the same: ticks / ticks of the shortest interval", at_most(1.1), (ticks - ticks_before) / most_ticks, raw
    )
    yield Row("the same: skipped ticks of two days ago that are left", at_most(0, "ticks"), _old_skipped_ticks(up), {})
    yield Row("the same: done calls without an answer", at_most(0, "calls"), calls - len(times), {"calls": calls})
    yield Row("the same: answers that were asked for twice", at_most(0, "calls"), sum(times.values()) - len(times), {})


# Postgres fills its shared buffers, whose size is fixed.
_LASTING = {"code server", "prefork server", "webserver", "daemon", "supervisor", "watchdog"}


def _usage_at_rest(up: Running) -> Usage:
    """The memory when no run works and all events are reported."""
    wait_for(lambda: _count(up, "select count(*) as n from outbox where told_at is null") == 0, "all events", 900)
    wait_for(lambda: _count(up, _WORKING) == 0, "the end of all runs", 300)
    time.sleep(SETTLE_SECONDS)
    return usage(up.home)


_WORKING = "select count(*) as n from workers where ended_at is null and kind in ('scan', 'drain', 'run', 'command')"


def _ticks(up: Running) -> int:
    return _count(up, "select count(*) as n from offload_dagster.job_ticks")


def _old_skipped_ticks(up: Running) -> int:
    return _count(
        up,
        "select count(*) as n from offload_dagster.job_ticks "
        "where status = 'SKIPPED' and timestamp < now() - interval '1 day'",
    )


_LEFT = "select count(*) as n from work_items where state in ('pending', 'claimed', 'deferred')"
_DRAINS = "select count(*) as n from workers where kind = 'drain'"


def _drain_with_pauses(workspace: Workspace, up: Running, documents: int) -> None:
    """Let the slot come and go until all documents are done or the time is over."""
    end = time.monotonic() + LONGEST_SECONDS
    while (left := _left(up)) and time.monotonic() < end:
        workspace.report(f"{left} of {CALLS_A_DOCUMENT * documents} calls are left, MB {_rounded(usage(up.home))}")
        up.router.set(mode="awake")
        time.sleep(PERIOD_SECONDS)
        up.router.set(mode="cold")
        time.sleep(PERIOD_SECONDS)


def _left(up: Running) -> int:
    return _count(up, _LEFT)


def _sizes(up: Running) -> dict[str, int]:
    """Bytes of the ledger, of Dagster's tables, and of the home with both, without the write-ahead log."""
    rows = up.ledger(
        "select n.nspname as schema, sum(pg_total_relation_size(c.oid))::bigint as bytes from pg_class c "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname in ('offload', 'offload_dagster') "
        "and c.relkind in ('r', 'm') group by 1"
    )
    found = {str(row["schema"]): int(row["bytes"]) for row in rows}
    return {"ledger": found["offload"], "dagster": found["offload_dagster"], "home": home_bytes(up)}


def _count(up: Running, query: str) -> int:
    [row] = up.ledger(query)
    return int(row["n"])


def _rounded(found: Usage) -> dict[str, Any]:
    return {role: round(megabytes, 1) for role, megabytes in sorted(found.memory_mb.items())}


BENCHMARKS = (Benchmark("endurance", endurance),)
