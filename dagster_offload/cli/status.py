"""`dagster-offload status`: what is done, what is waiting, and why. Only reads: registers nothing, imports no Dagster."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli.options import deep_options, home_option, json_option
from dagster_offload.cli.status_report import PROBLEMS_SHOWN, Report, load_report

if TYPE_CHECKING:
    from dagster_offload.ledger.core.rows import SlotRow
    from dagster_offload.ledger.reports.estimate import LongAhead
    from dagster_offload.settings import Loaded, Settings

COUNTS = ("pending", "claimed", "deferred", "done", "failed", "quarantined", "outdated")
LABELS = {"claimed": "in work"}


@click.command("status")
@home_option
@deep_options
@json_option
def command(*, as_json: bool) -> None:
    """Show what is done, what is waiting, and why.

    \b
    dagster-offload status
    dagster-offload status --json | jq .stages.summarize
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.service.pipeline import read_settings_in_force

    loaded = read_settings_in_force()
    report = load_report(loaded.settings)
    if as_json:
        print_json(
            {
                "deep": report.deep,
                "up": report.up and asdict(report.up),
                "workers": report.workers,
                "stages": {
                    stage: asdict(counts) | {"in_back_off": report.in_back_off.get(stage, 0)}
                    for stage, counts in report.stages.items()
                },
                "events_pending": report.events_pending,
                "concurrency": _concurrency(report.slot),
                "estimate": asdict(report.estimate),
                "last_drain": report.last_drain and asdict(report.last_drain),
                "long_documents": [asdict(read) for read in report.long_documents],
                "long_documents_ahead": [asdict(ahead) for ahead in report.long_documents_ahead],
                "needs_ocr": report.needs_ocr,
                "pipeline": _pipeline(report),
                "ocr": asdict(report.ocr) | {"hours": report.ocr.hours},
                "backups": [asdict(outcome) for outcome in report.backups],
                "disk": report.room
                and {
                    "free_bytes": report.room.free_bytes,
                    "needed_bytes": report.room.needed_bytes,
                    "problem": report.room.shortage,
                },
                "doubtful": [asdict(result) for result in report.doubtful],
                "corrections_for_review": report.corrections_for_review,
                "sinks": [asdict(sink) for sink in report.sinks],
            }
        )
    else:
        _print(loaded, report)


def _ocr_advice(settings: "Settings") -> str:
    from dagster_offload.extraction.tesseract import find_reader

    advice = find_reader(settings.ocr, settings.ocr_languages).advice
    command = "dagster-offload redo --needs-ocr"
    return f"{advice}; then run {command}" if advice else f"To read them, run {command}"


def _concurrency(slot: "SlotRow | None") -> dict[str, Any] | None:
    """How many calls may be open at the deep slot; None if this ledger has no deep slot."""
    from dagster_offload.cli.slot import found_concurrency

    if slot is None:
        return None
    return {
        "concurrency": slot.concurrency,
        "permits": slot.permits,
        "prompt_cache_size": slot.places,
        "is_auto": slot.is_auto,
        "found": found_concurrency(slot),
    }


def _pipeline(report: Report) -> dict[str, Any] | None:
    """The pipeline of the running `up`; None if no `up` runs."""
    running = report.pipeline
    if running is None:
        return None
    return {"file": running.file, "edit_not_in_force": running.problem, "differs_here": report.difference}


def _print(loaded: "Loaded", report: Report) -> None:
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import say
    from dagster_offload.cli.sink import status_lines

    settings = loaded.settings
    say(f"deep     {_describe_deep(settings, report)}")
    say(f"library  {settings.library or 'none: set OFFLOAD_LIBRARY'}")
    if loaded.file is not None:
        say(f"pipeline {loaded.file}")
    say(f"up       {_describe_up(settings, report)}")
    for line in (*_pace(report), *status_lines(report.sinks)):
        say(line)
    click.echo("")
    shown = table("stage", *(LABELS.get(name, name) for name in COUNTS))
    for stage, counts in report.stages.items():
        shown.add_row(stage, *(str(getattr(counts, name) or "-") for name in COUNTS))
    to_terminal(shown)
    for line in _next_steps(settings, report):
        say(line)


def _describe_up(settings: "Settings", report: Report) -> str:
    """Whether `up` runs, where its UI is (with its token if it needs one), and which workers are alive."""
    kinds = f"; working now: {', '.join(report.workers)}" if report.workers else ""
    if report.up is None:
        return f"does not run: nothing scans or drains by itself{kinds}"
    if not report.up.address:
        return f"starts (process {report.up.pid}){kinds}"
    from dagster_offload.service.ui.access import token_address
    from dagster_offload.service.ui.sessions import read_secret

    address = (
        token_address(report.up.address, read_secret(settings.home)) if report.up.uses_token else report.up.address
    )
    return f"runs, UI at {address}{kinds}"


def _describe_deep(settings: "Settings", report: Report) -> str:
    from dagster_offload.cli.formatting import describe_time
    from dagster_offload.ledger.core.rows import CHECKED_AT_THE_NEXT_TICK

    configured, slot = settings.slots.deep, report.slot
    if configured is None:
        return str(report.deep["reason"])
    where = f"{configured.model} at {configured.shown_url}"
    if slot is None or slot.breaker == "closed":
        reason = report.deep["reason"]
        health = (reason or "healthy") if report.deep["healthy"] else f"unavailable: {reason}"
        return f"{where}: {health}"
    state = f"{where}: {slot.breaker}, {slot.reason} since {describe_time(slot.reason_since)}"
    next_check = f"; next check {describe_time(slot.retry_at)}" if slot.retry_at and not slot.is_retry_due else ""
    if not report.is_slot_checked:
        next_check = "; `dagster-offload drain` or `up` checks it again"
    if slot.breaker == "misconfigured":
        return (
            f"{state}; correct that; to check it at once, run `dagster-offload slot set deep --try-again`{next_check}"
        )
    if slot.is_retry_due and report.is_slot_checked:
        return f"{state}; {CHECKED_AT_THE_NEXT_TICK}"
    return f"{state}{next_check}"


def _pace(report: Report) -> list[str]:
    """Lines about the slot's speed and the time that is left; empty if no recent call shows them."""
    from dagster_offload.cli.formatting import duration
    from dagster_offload.cli.slot import describe_concurrency

    lines, pace = [], report.estimate
    if pace.documents_per_hour is not None and pace.tokens_per_second is not None:
        concurrency = f", concurrency {report.slot.concurrency}" if report.slot is not None else ""
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
    from dagster_offload.cli.formatting import duration
    from dagster_offload.engine.progress import describe_parts_read
    from dagster_offload.ledger.archive.outcomes import failure

    lines = []
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
    if waiting and report.slot is not None and report.slot.breaker != "closed":
        lines.append(f"\n{waiting} waiting for deep: {report.slot.reason_text}")
    elif waiting and settings.slots.deep is None:
        lines.append(f"\n{waiting} waiting: no deep slot is configured (OFFLOAD_DEEP_URL, OFFLOAD_DEEP_MODEL)")
    elif waiting and not report.deep["healthy"]:
        lines.append(
            f"\n{waiting} waiting for deep: {report.deep['reason']}; a running `up` continues when the slot is back"
        )
    elif waiting:
        lines.append(
            f"\n{waiting} waiting for deep: a running `up` processes them; to start now, run `dagster-offload drain`"
        )
    if in_back_off := sum(report.in_back_off.values()):
        lines.append(
            f"\n{in_back_off} pending wait for their next attempt after a fault (dagster-offload explain DOCUMENT)"
        )
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
        documents = f"{report.ocr.documents} document{'s' if report.ocr.documents != 1 else ''}"
        lines.append(f"\nPages that wait for OCR: {pages} of {documents}{pace}{time}")
    if report.problems:
        lines.append(
            "\nThese need your attention (dagster-offload explain DOCUMENT, then dagster-offload retry DOCUMENT):"
        )
        lines += [
            f"  {p.document}  {p.stage} {p.state} after {p.attempts} attempts: {p.reason}" for p in report.problems
        ]
    if report.doubtful:
        lines.append("\nThese results are doubtful, so read the documents themselves:")
        lines += [f"  {r.document}  {r.stage}: {', '.join(r.marks)}" for r in report.doubtful]
    if report.needs_ocr:
        lines.append(f"\n{report.needs_ocr} scans have not been read. {_ocr_advice(settings)}")
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
            f"\n{report.events_pending} results are not in Dagster yet; the next scan, drain or run reports them"
        )
    return lines


def _describe_reviews(documents: int) -> str:
    files = "1 file has" if documents == 1 else f"{documents} files have"
    return f"{files} changed since you corrected the record; review the corrections: dagster-offload correct --list"


def _describe_ahead(ahead: "LongAhead") -> str:
    from dagster_offload.cli.formatting import duration

    hours = "" if ahead.hours is None else f", about {duration(ahead.hours * 3600)} of the slot's time"
    return f"about {ahead.parts} parts{hours}"
