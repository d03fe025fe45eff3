"""Reports partitions of several documents to Dagster: materialized only while all their documents are done.

Why it is built this way: docs/decisions/0016-partitions.md. `defs/events.py` calls this instead of reporting each document.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from dagster_offload.defs.partitions.storage import withdraw
from dagster_offload.defs.shown.partitions import partition_materialization, partition_observation
from dagster_offload.engine.partitions import is_withdrawn, runs_to_report
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.events import outbox
from dagster_offload.ledger.partitions import assigning, events
from dagster_offload.ledger.partitions.events import Facts, Pending, Row
from dagster_offload.text.counts import counted
from dagster_offload.text.plain_text import escaped

if TYPE_CHECKING:
    from dagster_offload.defs.events import EventReporter

ROWS = 1_000
PARTITIONS = 100

Run = str | None


def report_partitions(reporter: "EventReporter", deadline: float) -> int:
    """Report what changed, until the monotonic clock reaches `deadline`. The caller must hold the flusher's lock.

    Returns the number of rows of the outbox and of changed partitions that were looked at.
    """
    looked_at = 0
    while True:
        found = reporter.ledger.run(events.pending, reporter.reportable, ROWS, PARTITIONS)
        if not found.rows and not found.changed:
            return looked_at
        _report(reporter, found)
        looked_at += len(found.rows) + len(found.changed)
        if time.monotonic() > deadline:
            return looked_at


def forget_partitions(
    instance: dg.DagsterInstance, ledger: Ledger, keys: Sequence[dg.AssetKey], new: list[str]
) -> None:
    """Withdraw all events of these partitions: they are about other documents. What is done is reported again."""
    for key in keys:
        withdraw(instance, key, new)
    ledger.run(assigning.forget_reports, new)


def _report(reporter: "EventReporter", found: Pending) -> None:
    """Withdraw first, then report, then store in the ledger what Dagster shows. A crash in between repeats it."""
    runs = _runs(found, reporter.reportable)
    known = [facts for facts in reporter.ledger.run(events.facts, list(runs)) if facts.is_known]
    withdrawn = [facts for facts in known if is_withdrawn(facts)]
    for stage in reporter.reportable:
        if partitions := [facts.partition for facts in withdrawn if facts.stage == stage]:
            withdraw(reporter.instance, reporter.names.keys[stage], partitions)
    if found.was_withdrawn:
        reporter.instance.wipe_asset_cached_status([reporter.names.keys[stage] for stage in reporter.reportable])
    _note_intent(reporter, [facts for facts in known if runs[facts.partition, facts.stage]])
    reported: dict[tuple[str, str], tuple[str, Run]] = {}
    for stage in reporter.reportable:  # upstream assets first
        complete = [facts for facts in known if facts.stage == stage and facts.is_complete]
        reported |= _materialize(reporter, stage, complete, runs)
    _observe(reporter, found.rows)
    reporter.ledger.run(
        _mark_reported,
        [(partition, stage, version, run) for (partition, stage), (version, run) in reported.items()],
        [(facts.partition, facts.stage) for facts in withdrawn],
        found,
    )


def _runs(found: Pending, stages: Sequence[str]) -> dict[tuple[str, str], list[Run]]:
    """The partitions and stages to look at, with the runs that did some of their work."""
    runs: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for row in found.rows:
        if row.partition is not None:
            runs[row.partition, row.stage] += [row.run_id] if row.state is None else []
    for partition in found.changed:
        for stage in stages:
            runs[partition, stage].append(None)
    return runs


def _note_intent(reporter: "EventReporter", known: Sequence[Facts]) -> None:
    """Note which partitions Dagster may show from now on. They can then be withdrawn even if this process dies."""
    begun = [(facts.partition, facts.stage, "", None) for facts in known if facts.is_complete and facts.version is None]
    if begun:
        reporter.ledger.run(events.mark_reported, begun, [], [])


def _materialize(
    reporter: "EventReporter", stage: str, complete: Sequence[Facts], runs: dict[tuple[str, str], list[Run]]
) -> dict[tuple[str, str], tuple[str, Run]]:
    """Report these complete partitions of one stage. Returns version and run of the last event of each that has one."""
    by_run: dict[Run, list[tuple[str, dg.AssetMaterialization]]] = defaultdict(list)
    reported = {}
    for facts in complete:
        contents = reporter.ledger.run(events.contents, facts.partition, stage, reporter.stages.recipes.get(stage))
        if not contents.documents:  # they have gone meanwhile, which is noted
            continue
        for run in runs_to_report(facts, contents.version, runs[facts.partition, stage]):
            shown = partition_materialization(facts.partition, stage, contents, reporter.names.keys, reporter.stages)
            message = f"{escaped(facts.partition)}: {stage} is done for {counted(contents.documents, 'document')}."
            by_run[run].append((message, shown))
            reported[facts.partition, stage] = (contents.version, run or reporter.run_id)
    for run, shown_events in by_run.items():
        reporter.store(run, shown_events)
    return reported


def _observe(reporter: "EventReporter", rows: Sequence[Row]) -> None:
    """Report documents that were deferred, failed or quarantined: one event for a partition, a stage, a state and a run."""
    together: dict[tuple[str, str, State, Run], dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if row.partition is not None and row.state is not None:
            together[row.stage, row.partition, row.state, row.run_id][row.document] = row
    for (stage, partition, state, run), by_document in together.items():
        alike = list(by_document.values())
        shown = partition_observation(partition, stage, state, alike, reporter.names.keys)
        message = f"{escaped(partition)}: {stage} is {state} for {counted(len(alike), 'document')}."
        reporter.store(run, [(message, shown)])


def _mark_reported(
    cur: Cursor,
    reported: Sequence[tuple[str, str, str, Run]],
    withdrawn: Sequence[tuple[str, str]],
    found: Pending,
) -> None:
    changes = [change for ids in found.changed.values() for change in ids]
    events.mark_reported(cur, reported, withdrawn, changes)
    outbox.mark_reported(cur, [row.event_id for row in found.rows])
