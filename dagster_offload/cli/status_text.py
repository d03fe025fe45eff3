"""The report of `status` as text. `status_report.py` reads it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.status_report import PROBLEMS_SHOWN, Report, ShownSlot
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster_offload.ledger.reports.estimate import LongAhead
    from dagster_offload.settings import Loaded, Settings
    from dagster_offload.slot.rest import Rest

STATES = ("pending", "claimed", "deferred", "done", "not_applicable", "failed", "quarantined", "outdated")
LABELS = {"claimed": "in work", "not_applicable": "not applicable"}
ALWAYS = ("pending", "deferred", "done", "failed")


def _ocr_advice(settings: "Settings") -> str:
    from dagster_offload.extraction.ocr.tesseract import find_reader

    advice = find_reader(settings.ocr, settings.ocr_languages).advice
    command = "dagster-offload redo --needs-ocr"
    if advice:
        return f"{advice}; then run {command}"
    return f"To read them, run {command}. `dagster-offload explain DOCUMENT` shows what one lacks"


def print_report(loaded: "Loaded", report: Report) -> None:
    """Print the report: the slot, the library and `up`, a table of counts, then what needs a person."""
    from dagster_offload.cli.formatting import say
    from dagster_offload.cli.notify import status_lines as lines_of_channels
    from dagster_offload.cli.sink import status_lines
    from dagster_offload.slot.config import PRIMARY

    settings = loaded.settings
    for name, described in _describe_slots(report):
        say(f"{name:<8} {described}")
    for rest in report.rests:
        if rest.slot == PRIMARY:
            say(f"{rest.slot:<8} {rest}")
    if report.wakes is not None:
        say(f"wake     {report.wakes}")
    say(f"library  {settings.library or 'none: set OFFLOAD_LIBRARY'}")
    if loaded.file is not None:
        say(f"pipeline {loaded.file}")
    say(f"up       {_describe_up(settings, report)}")
    for line in (*_pace(report), *status_lines(report.sinks), *lines_of_channels(report.channels)):
        say(line)
    if report.stopped_sensors:
        say(f"sensors  turned off in the UI: {', '.join(report.stopped_sensors)} ({_effects(report.stopped_sensors)})")
    click.echo("")
    _print_counts(report)
    for line in _next_steps(settings, report):
        say(line)


def _effects(sensors: list[str]) -> str:
    effects = {"drain_sensor": "no drain starts by itself", "library_sensor": "no scan starts by itself"}
    return ", ".join(effects[sensor] for sensor in sensors)


def _print_counts(report: Report) -> None:
    """A table of the states that any document is in; on a narrow terminal, one line per stage and state."""
    from dagster_offload.cli.console import columns_of_terminal, state_style, styled, table, to_terminal

    counts = {stage: _counts_of(report, stage) for stage in report.stages}
    states = [name for name in STATES if name in ALWAYS or any(of_stage[name] for of_stage in counts.values())]
    labels = [LABELS.get(name, name) for name in states]
    width = max(map(len, counts), default=5) + sum(len(label) + 2 for label in labels)
    if width > columns_of_terminal():
        for stage, of_stage in counts.items():
            found = ", ".join(f"{of_stage[name]} {LABELS.get(name, name)}" for name in states if of_stage[name])
            click.echo(f"{stage}: {found or 'nothing yet'}")
        return
    shown = table("stage", *labels)
    for stage, of_stage in counts.items():
        cells = ((of_stage[name], state_style(name)) for name in states)
        shown.add_row(stage, *(styled(str(count), style) if count else "-" for count, style in cells))
    to_terminal(shown)


def _counts_of(report: Report, stage: str) -> dict[str, int]:
    """The counts of a stage. A document that a stage's condition leaves out is done in the ledger, and no work was done."""
    counts, left_out = asdict(report.stages[stage]), report.not_applicable.get(stage, 0)
    return counts | {"done": counts["done"] - left_out, "not_applicable": left_out}


def _describe_up(settings: "Settings", report: Report) -> str:
    """Whether `up` runs, where its UI is (with its token if it needs one), and which workers are alive."""
    kinds = f"; working now: {', '.join(report.workers)}" if report.workers else ""
    if report.up is None:
        return f"does not run: nothing scans or drains by itself{kinds}"
    if not report.up.address:
        return f"starts (process {report.up.pid}), its UI does not answer yet{kinds}"
    from dagster_offload.service.ui.access import token_address
    from dagster_offload.service.ui.sessions import read_secret

    address = (
        token_address(report.up.address, read_secret(settings.home)) if report.up.uses_token else report.up.address
    )
    return f"runs, UI at {address}{kinds}"


def _describe_slots(report: Report) -> "Iterator[tuple[str, str]]":
    """One line for each slot of drains: its name, and its state in words."""
    if not report.slots:
        yield "deep", str(report.deep["reason"])
    for each in report.slots:
        yield each.config.name, _describe_slot(report, each)


def _describe_slot(report: Report, each: ShownSlot) -> str:
    from dagster_offload.cli.formatting import describe_time
    from dagster_offload.ledger.core.rows import CHECKED_AT_THE_NEXT_TICK
    from dagster_offload.slot.reserve import describe_reserve

    configured, slot = each.config, each.row
    where = f"{configured.model} at {configured.shown_url}"
    if (rest := _rest_of(report, configured.name)) is not None:
        return f"{where}: {rest}"
    if slot is None or slot.breaker == "closed":
        reason = each.state["reason"]
        health = (reason or "healthy") if each.state["healthy"] else f"unavailable: {reason}"
        reserve_for = each.state["in_reserve_for"]
        return f"{where}: {health}" + (f"; {describe_reserve(reserve_for)}" if reserve_for else "")
    state = f"{where}: {slot.breaker}, {slot.reason} since {describe_time(slot.reason_since)}"
    next_check = f"; next check {describe_time(slot.retry_at)}" if slot.retry_at and not slot.is_retry_due else ""
    if not report.is_slot_checked:
        others = "drain_sensor, if it is turned on," if report.up is not None else "`up`"
        next_check = f"; `dagster-offload drain` or {others} checks it again"
    if slot.breaker == "misconfigured":
        return f"{state}; correct that; to check it at once, run `dagster-offload slot set {slot.name} --try-again`{next_check}"
    if slot.is_retry_due and report.is_slot_checked:
        return f"{state}; {CHECKED_AT_THE_NEXT_TICK}"
    return f"{state}{next_check}"


def _rest_of(report: Report, slot: str) -> "Rest | None":
    return next((rest for rest in report.rests if rest.slot == slot), None)


def _pace(report: Report) -> list[str]:
    """Lines about the slot's speed and the time that is left; empty if no recent call shows them."""
    from dagster_offload.cli.formatting import duration
    from dagster_offload.cli.slot import describe_concurrency

    lines, pace = [], report.estimate
    if pace.documents_per_hour is not None and pace.tokens_per_second is not None:
        rows = [each.row for each in report.slots if each.row is not None]
        concurrency = f", concurrency {sum(row.concurrency for row in rows)}" if rows else ""
        lines.append(
            f"pace     {pace.documents_per_hour:.0f} documents an hour, {pace.tokens_per_second:.0f} tokens/s{concurrency}"
        )
    if pace.slot_hours_left:
        end = f"; done by {pace.done_at.astimezone():%a %d %b %H:%M} at its usual hours" if pace.done_at else ""
        why = f" ({pace.note})" if pace.note else ""
        lines.append(f"left     {duration(pace.slot_hours_left * 3600)} of the slot's time{end}{why}")
    if report.slot is not None and (found := describe_concurrency(report.slot)) is not None:
        lines.append(f"calls    {found}")
    if (used := report.last_drain) is not None and (used.read or used.written):
        reused = "reuse not reported by the server" if used.cached is None else f"{used.cached:,} from its cache"
        lines.append(f"tokens   last drain: {used.read:,} read, {reused}, {used.written:,} written")
    return lines


def _next_steps(settings: "Settings", report: Report) -> list[str]:
    """Lines about waiting work and its reason, and about work that needs a person, with the command to run."""
    from dagster_offload.cli.formatting import describe_time, duration
    from dagster_offload.engine.progress import describe_parts_read
    from dagster_offload.ledger.archive.outcomes import failure

    lines = []
    if not report.has_scanned:
        lines.append(f"\nNo scan has ended yet, so no document is counted: {_first_scan(report)}")
    if report.up is not None and report.up.reload_waits_for:
        lines.append(
            "\nThe stages or slots changed: Dagster's UI shows them when the running work has ended: "
            f"{report.up.reload_waits_for}. `dagster-offload drain` uses them already."
        )
    if report.pipeline is not None and report.pipeline.problem is not None:
        lines.append(f"\nThe last edit of the settings is not in force: {report.pipeline.problem}")
    if report.difference is not None:
        lines.append(
            f"\nThe settings here differ from those of the running `up`, so commands that change records refuse to run: "
            f"{report.difference}"
        )
    if report.room is not None and report.room.shortage is not None:
        lines.append(f"\n{report.room.shortage}")
    waiting = sum(
        counts.pending + counts.deferred - report.in_back_off.get(stage, 0)
        for stage, counts in report.stages.items()
        if stage != "extract"
    )
    if waiting and len(report.slots) > 1:
        lines.append(f"\n{waiting} waiting: {_what_several_wait_for(settings, report)}")
    elif waiting and report.slot is not None and report.slot.breaker != "closed":
        lines.append(f"\n{waiting} waiting for deep: {report.slot.reason_text}")
    elif waiting and settings.slots.deep is None:
        lines.append(f"\n{waiting} waiting: no deep slot is configured (OFFLOAD_DEEP_URL, OFFLOAD_DEEP_MODEL)")
    elif waiting and not report.deep["healthy"]:
        then = "`up` continues" if report.up is not None else "start `dagster-offload up`, which continues"
        lines.append(f"\n{waiting} waiting for deep: {report.deep['reason']}; {then} when the slot is back")
    elif waiting:
        lines.append(f"\n{waiting} waiting for deep: {_who_drains(report)}")
    if report.in_work:
        lines.append("\nIn work:")
        lines += [
            f"  {work.document}  {', '.join(work.stages)}, by a {work.worker} since {describe_time(work.since)}"
            for work in report.in_work
        ]
    if in_back_off := sum(report.in_back_off.values()):
        lines.append(
            f"\n{in_back_off} pending wait for their next attempt after a fault (dagster-offload explain DOCUMENT):"
        )
        lines += [
            f"  {item.document}  {item.stage}: {describe_time(item.at)}, after {counted(item.attempts, 'attempt')}: "
            f"{item.reason or 'no reason is stored'}"
            for item in report.next_attempts
        ]
    if report.long_documents:
        lines.append("\nLong documents in progress, read by page or part:")
        shown = report.long_documents[:PROBLEMS_SHOWN]
        lines += [
            f"  {r.document}  {r.stage} {r.state}: {describe_parts_read(r.stage, r.done, r.total)}" for r in shown
        ]
    if report.long_documents_ahead:
        lines.append("\nLong documents that wait, after the short ones:")
        lines += [
            f"  {ahead.document}  {ahead.stage}: {_describe_ahead(ahead)}" for ahead in report.long_documents_ahead
        ]
    if report.ocr.pages:
        pages, hours = report.ocr.pages, report.ocr.hours
        pace = "" if report.ocr.pages_per_minute is None else f", {report.ocr.pages_per_minute:.1f} pages a minute"
        time = "" if hours is None else f": about {duration(hours * 3600)}"
        documents = counted(report.ocr.documents, "document")
        lines.append(f"\nPages that wait for OCR: {pages} of {documents}{pace}{time}")
    if report.problems:
        lines.append(
            "\nThese need your attention (dagster-offload explain DOCUMENT, then dagster-offload retry DOCUMENT):"
        )
        lines += [
            f"  {p.document}  {p.stage} {p.state} after {counted(p.attempts, 'attempt')}: {p.reason}"
            for p in report.problems
        ]
    if report.doubtful:
        lines.append("\nThese results are doubtful, so read the documents themselves:")
        lines += [f"  {r.document}  {r.stage}: {', '.join(r.marks)}" for r in report.doubtful]
    if report.needs_ocr:
        lines.append(
            f"\n{counted(report.needs_ocr, 'document')} of scanned pages not read yet. {_ocr_advice(settings)}"
        )
    if report.unusable_names:
        lines.append("\nThese files cannot be documents because of their names (rename them):")
        lines += [f"  {name}: {reason}" for name, reason in list(report.unusable_names.items())[:PROBLEMS_SHOWN]]
    outdated = sum(counts.outdated for counts in report.stages.values())
    if outdated:
        lines.append(
            f"\n{outdated} results are outdated (made with another prompt, options or model): dagster-offload redo --outdated"
        )
    if report.corrections_for_review:
        lines.append(f"\n{_describe_reviews(report.corrections_for_review)}")
    lines += [f"\n{why}" for outcome in report.backups if (why := failure(outcome)) is not None]
    if report.events_pending:
        lines.append(
            f"\nNot in Dagster yet: {counted(report.events_pending, 'result')}; the next scan, drain or run reports them"
        )
    return lines


def _first_scan(report: Report) -> str:
    if "scan" in report.workers:
        return "the first one is running"
    return (
        "`up` begins with one" if report.up is not None else "run `dagster-offload scan`, or start `dagster-offload up`"
    )


def _what_several_wait_for(settings: "Settings", report: Report) -> str:
    """What the waiting work waits for if there are several slots. A stage may be for slots that are all unavailable."""
    from dagster_offload.stages.catalog import stages_by_slot

    resting = {rest.slot for rest in report.rests}
    states = {each.config.name: each.state for each in report.slots}
    usable = {
        name
        for name, state in states.items()
        if name not in resting and state["breaker"] == "closed" and state["healthy"]
    }
    if not usable:
        return "no slot is available"
    by_slot = stages_by_slot(settings, report.stages)
    stuck = [
        f"{stage} waits for {' or '.join(slots)}"
        for stage in report.stages
        if (slots := [name for name in states if stage in by_slot[name]]) and not usable.intersection(slots)
    ]
    return "; ".join((_who_drains(report), *stuck))


def _who_drains(report: Report) -> str:
    if "drain" in report.workers:
        return "a drain is working on them"
    if (rest := _rest_of(report, "deep")) is not None and len(report.slots) == 1:
        again = f"`dagster-offload resume {rest.slot}`" if rest.kind == "paused" else "the slot is used again"
        return f"they wait until {again}"
    if report.up is None:
        return "start `dagster-offload up`, or run `dagster-offload drain` now"
    if "drain_sensor" in report.stopped_sensors:
        return "turn on drain_sensor in the UI (Automation), or run `dagster-offload drain` now"
    return "`up` starts a drain within seconds; to start one now, run `dagster-offload drain`"


def _describe_reviews(documents: int) -> str:
    files = "1 file has" if documents == 1 else f"{documents} files have"
    return f"{files} changed since you corrected the record; review the corrections: dagster-offload correct --list"


def _describe_ahead(ahead: "LongAhead") -> str:
    from dagster_offload.cli.formatting import duration

    hours = "" if ahead.hours is None else f", about {duration(ahead.hours * 3600)} of the slot's time"
    return f"about {ahead.parts} parts{hours}"
