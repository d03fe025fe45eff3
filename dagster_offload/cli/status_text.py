"""The report of `status` as text. `status_report.py` reads it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.status_next_steps import next_steps
from dagster_offload.cli.status_report import Report, ShownSlot
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster_offload.ledger.reports.usage import TokenUse
    from dagster_offload.settings import Loaded, Settings

STATES = ("pending", "claimed", "deferred", "done", "not_applicable", "failed", "quarantined", "outdated")
LABELS = {"claimed": "in work", "not_applicable": "not applicable"}
ALWAYS = ("pending", "deferred", "done", "failed")


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
            say(f"{rest.slot:<8} {rest.state}")
    if report.wakes is not None:
        say(f"wake     {report.wakes}")
    say(f"library  {_describe_library(report)}")
    if loaded.file is not None:
        say(f"pipeline {loaded.file}")
    say(f"up       {_describe_up(settings, report)}")
    for line in (*_pace(report), *status_lines(report.sinks), *lines_of_channels(report.channels)):
        say(line)
    if report.stopped_sensors:
        say(f"sensors  turned off in the UI: {', '.join(report.stopped_sensors)} ({_effects(report.stopped_sensors)})")
    click.echo("")
    _print_counts(report)
    for line in next_steps(settings, report):
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
    at_work = [kind for kind in report.workers if kind != "command"]  # it works at no document itself
    kinds = f"; working now: {', '.join(at_work)}" if at_work else ""
    if report.up is None:
        return f"does not run: nothing scans or drains by itself{kinds}"
    where = "" if report.up.is_here else f" on {report.up.host}"
    if not report.up.address:
        return f"starts{where} (process {report.up.pid}), its UI does not answer yet{kinds}"
    from dagster_offload.service.ui.access import token_address
    from dagster_offload.service.ui.sessions import load_secret

    address = (
        token_address(report.up.address, load_secret(settings.home)) if report.up.uses_token else report.up.address
    )
    return f"runs{where}, UI at {address}{kinds}"


def _describe_library(report: Report) -> str:
    """The library's path and, if it is missing, why and what to do."""
    if report.library is None:
        return "none: set OFFLOAD_LIBRARY"
    return " ".join(filter(None, (str(report.library.path), report.library.problem)))


def _describe_slots(report: Report) -> "Iterator[tuple[str, str]]":
    """One line for each slot of drains: its name, and its state in words."""
    if not report.slots:
        yield "deep", str(report.deep["reason"])
    for each in report.slots:
        yield each.config.name, _describe_slot(report, each)


def _describe_slot(report: Report, each: ShownSlot) -> str:
    from dagster_offload.slot.reserve import describe_reserve

    configured, slot = each.config, each.row
    where = f"{configured.model} at {configured.shown_url}"
    if (rest := report.rest_of(configured.name)) is not None:
        return f"{where}: {rest.state}"
    if slot is None or slot.breaker == "closed":
        reason = each.state["reason"]
        health = f"unavailable: {reason}" if each.state["healthy"] is False else (reason or "healthy")
        reserve_for = each.state["in_reserve_for"]
        return f"{where}: {health}" + (f"; {describe_reserve(reserve_for)}" if reserve_for else "")
    return f"{where}: {report.running.describe_breaker(slot)}"


def _pace(report: Report) -> list[str]:
    """Lines about the slot's speed and the time that is left; empty if no recent call shows them."""
    from dagster_offload.cli.formatting import duration
    from dagster_offload.cli.slot_text import describe_concurrency

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
    if pace.held_hours:
        another = "another " if pace.slot_hours_left else ""
        lines.append(f"held     {another}{duration(pace.held_hours * 3600)} of the slot's time, for held stages")
    if report.slot is not None and (found := describe_concurrency(report.slot)) is not None:
        lines.append(f"calls    {found}")
    if report.last_drain is not None and (tokens := _tokens(report.last_drain)) is not None:
        lines.append(f"tokens   last drain: {tokens}")
    return lines


def _tokens(used: "TokenUse") -> str | None:
    """The tokens of a drain in words; None if it got no answer."""
    not_counted = f"not known for {counted(used.not_counted, 'answer')}, because the server counts none"
    if not (used.read or used.written):
        return not_counted if used.not_counted else None
    reused = (
        "reuse not reported by the server" if used.cached is None else f"{used.cached:,} more from the server's cache"
    )
    known = f"{used.read:,} read, {reused}, {used.written:,} written"
    return f"{known}; {not_counted}" if used.not_counted else known
