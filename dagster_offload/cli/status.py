"""`dagster-offload status`: what is done, what waits, and for what. Reads only: it registers nothing, imports no Dagster."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli.options import deep_options, home_option, json_option

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Cursor
    from dagster_offload.ledger.core.rows import SlotRow, StageCounts
    from dagster_offload.ledger.reports.estimate import Estimate
    from dagster_offload.ledger.reports.status import InParts, Problem
    from dagster_offload.ledger.reports.usage import TokenUse
    from dagster_offload.settings import Settings
    from dagster_offload.slot.health import ProbeResult

COUNTS = ("pending", "claimed", "deferred", "done", "failed", "quarantined", "outdated")
PROBLEMS_SHOWN = 20


@dataclass(frozen=True)
class Report:
    """Everything `status` tells, however it is printed."""

    deep: dict[str, Any]
    slot: "SlotRow | None"
    stages: "dict[str, StageCounts]"
    problems: "list[Problem]"
    unusable_names: dict[str, str]
    events_pending: int
    estimate: "Estimate"
    last_drain: "TokenUse | None"
    long_documents: "list[InParts]"
    needs_ocr: int


@click.command("status")
@home_option
@deep_options
@json_option
def command(*, as_json: bool) -> None:
    """What is done, what waits, and for what.

    \b
    dagster-offload status
    dagster-offload status --json | jq .stages.summarize
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.settings import load_settings

    settings = load_settings()
    report = _look(settings)
    if as_json:
        print_json(
            {
                "deep": report.deep,
                "stages": {stage: asdict(counts) for stage, counts in report.stages.items()},
                "events_pending": report.events_pending,
                "width": _width(report.slot),
                "estimate": asdict(report.estimate),
                "last_drain": report.last_drain and asdict(report.last_drain),
                "long_documents": [asdict(read) for read in report.long_documents],
                "needs_ocr": report.needs_ocr,
            }
        )
    else:
        _print(settings, report)


def _look(settings: "Settings") -> Report:
    from dagster_offload.cli.quick_probe import quick_probe
    from dagster_offload.ledger.core.opening import open_ledger

    deep = settings.slots.deep
    seen = None if deep is None else quick_probe(deep)
    with open_ledger(settings) as ledger:
        return ledger.run(_read, settings, seen)


def _read(cur: "Cursor", settings: "Settings", seen: "ProbeResult | None") -> Report:
    """Everything in one transaction, so that the numbers fit one another."""
    from dagster_offload.ledger.reports import status, usage
    from dagster_offload.ledger.reports.estimate import estimate
    from dagster_offload.ledger.slots import permits, slots
    from dagster_offload.ledger.work import outbox
    from dagster_offload.slot.config import DEEP
    from dagster_offload.stages.catalog import recipes

    slot = slots.get(cur, DEEP)
    return Report(
        deep=_deep(slot, seen, permits.count_held(cur, DEEP)),
        slot=slot,
        stages=status.stage_counts(cur, recipes(settings)),
        problems=status.problems(cur, PROBLEMS_SHOWN),
        unusable_names=status.unusable_names(cur),
        events_pending=outbox.count_pending(cur),
        estimate=estimate(cur, _slot_name(settings)),
        last_drain=usage.of_last_drain(cur),
        long_documents=status.in_parts(cur),
        needs_ocr=status.count_needs_ocr(cur),
    )


def _way_to_ocr(settings: "Settings") -> str:
    from dagster_offload.extraction.tesseract import find_reader

    advice = find_reader(settings.ocr, settings.ocr_languages).advice
    then = "dagster-offload redo --needs-ocr"
    return f"{advice}; then {then}" if advice else f"To read them: {then}"


def _slot_name(settings: "Settings") -> str:
    """The slot the backlog goes to: the deep one, also where its settings were lost."""
    from dagster_offload.slot.config import DEEP

    configured = settings.slots.for_prompt()
    return DEEP if configured is None else configured.name


def _width(slot: "SlotRow | None") -> dict[str, Any] | None:
    """How many calls may be open at the deep slot; None where this ledger has seen none."""
    if slot is None:
        return None
    return {
        "width": slot.concurrency,
        "permits": slot.permits,
        "places": slot.places,
        "is_auto": slot.is_auto,
        "found": slot.width_found,
    }


def _deep(slot: "SlotRow | None", seen: "ProbeResult | None", open_calls: int) -> dict[str, Any]:
    """The deep slot in the words of `status --json`. `healthy` is None where none is configured (`seen` is None).

    Some servers answer no health request while they generate: with calls of ours open, such a slot is busy, not away.
    """
    if seen is None:
        reason = "OFFLOAD_DEEP_URL is not set" + ("; this ledger knows one: see `slot show`" if slot else "")
        return {
            "configured": False,
            "healthy": None,
            "breaker": slot and slot.breaker,
            "reason": reason,
            "retry_at": None,
        }
    is_away = slot is not None and slot.breaker != "closed"
    is_busy = not is_away and not seen.answered and open_calls > 0
    reason = f"busy, {open_calls} of our calls open: {seen.reason}" if is_busy else seen.reason
    return {
        "configured": True,
        "healthy": seen.healthy or is_busy,
        "breaker": slot.breaker if slot else "closed",
        "reason": slot.reason if slot and is_away else (None if seen.healthy else reason),
        "retry_at": slot.retry_at.isoformat() if slot and is_away and slot.retry_at else None,
    }


def _print(settings: "Settings", report: Report) -> None:
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import say

    say(f"deep     {_describe_deep(settings, report)}")
    say(f"library  {settings.library or 'none: set OFFLOAD_LIBRARY'}")
    for line in _pace(report):
        say(line)
    click.echo("")
    shown = table("stage", *COUNTS)
    for stage, counts in report.stages.items():
        shown.add_row(stage, *(str(getattr(counts, name) or "-") for name in COUNTS))
    to_terminal(shown)
    for line in _next_steps(settings, report):
        say(line)


def _describe_deep(settings: "Settings", report: Report) -> str:
    from dagster_offload.cli.formatting import describe_time
    from dagster_offload.ledger.core.rows import CHECKED_AT_THE_NEXT_TICK

    configured, slot = settings.slots.deep, report.slot
    if configured is None:
        return str(report.deep["reason"])
    where = f"{configured.model} at {configured.shown_url}"
    if slot is None or slot.breaker == "closed":
        reason = report.deep["reason"]
        health = (reason or "healthy") if report.deep["healthy"] else f"not there now: {reason}"
        return f"{where}: {health}"
    words = f"{where}: {slot.breaker}, {slot.reason} since {describe_time(slot.reason_since)}"
    if slot.breaker == "misconfigured":
        again = f"; asked again {describe_time(slot.retry_at)}" if slot.retry_at and not slot.is_retry_due else ""
        return f"{words}; change the setting, or `dagster-offload slot set deep --try-again`{again}"
    if slot.is_retry_due:
        return f"{words}; {CHECKED_AT_THE_NEXT_TICK}"
    return f"{words}; asked again {describe_time(slot.retry_at)}" if slot.retry_at else words


def _pace(report: Report) -> list[str]:
    """How fast the slot is and when the backlog may be done; nothing where no call tells."""
    from dagster_offload.cli.formatting import duration
    from dagster_offload.cli.slot import describe_concurrency

    lines, pace = [], report.estimate
    if pace.documents_per_hour is not None and pace.tokens_per_second is not None:
        open_at_once = f", {report.slot.concurrency} open at once" if report.slot is not None else ""
        lines.append(
            f"pace     {pace.documents_per_hour:.0f} documents an hour, {pace.tokens_per_second:.0f} tokens/s{open_at_once}"
        )
    if pace.slot_hours_left:
        end = f"; at its usual hours until {pace.done_at.astimezone():%a %d %b %H:%M}" if pace.done_at else ""
        why = f" ({pace.note})" if pace.note else ""
        lines.append(f"left     {duration(pace.slot_hours_left * 3600)} of the slot's time{end}{why}")
    if report.slot is not None and (found := describe_concurrency(report.slot)) is not None:
        lines.append(f"width    {found}")
    if (used := report.last_drain) is not None and (used.read or used.written):
        reused = (
            "its server does not say what it reuses" if used.cached is None else f"{used.cached:,} out of its cache"
        )
        lines.append(f"tokens   last drain: {used.read:,} read, {reused}, {used.written:,} written")
    return lines


def _next_steps(settings: "Settings", report: Report) -> list[str]:
    """What waits for what, and what a person can do about what stands still."""
    from dagster_offload.engine.progress import describe_parts_read

    lines = []
    waiting = sum(c.pending + c.deferred for stage, c in report.stages.items() if stage != "extract")
    if waiting and report.slot is not None and report.slot.breaker != "closed":
        lines.append(f"\n{waiting} waiting for deep: {report.slot.reason_text}")
    elif waiting and settings.slots.deep is None:
        lines.append(f"\n{waiting} waiting: no deep slot is configured (OFFLOAD_DEEP_URL, OFFLOAD_DEEP_MODEL)")
    elif waiting and not report.deep["healthy"]:
        lines.append(f"\n{waiting} waiting for deep: {report.deep['reason']}; a running `up` goes on when it is back")
    elif waiting:
        lines.append(
            f"\n{waiting} waiting for deep: `dagster-offload drain` works them off now, a running `up` does by itself"
        )
    if report.long_documents:
        lines.append("\nLong documents under way, read page by page or part by part:")
        shown = report.long_documents[:PROBLEMS_SHOWN]
        lines += [
            f"  {r.document}  {r.stage} {r.state}: {describe_parts_read(r.stage, r.done, r.total)}" for r in shown
        ]
    if report.problems:
        lines.append("\nOnly a person moves these (dagster-offload retry DOCUMENT; dagster-offload explain DOCUMENT):")
        lines += [f"  {p.document}  {p.stage} {p.state} after {p.attempts}: {p.reason}" for p in report.problems]
    if report.needs_ocr:
        lines.append(f"\n{report.needs_ocr} are pictures of text that nobody has read. {_way_to_ocr(settings)}")
    if report.unusable_names:
        lines.append("\nNo documents, because of their names (rename them):")
        lines += [f"  {name}: {reason}" for name, reason in list(report.unusable_names.items())[:PROBLEMS_SHOWN]]
    outdated = sum(counts.outdated for counts in report.stages.values())
    if outdated:
        lines.append(f"\n{outdated} made with another prompt, options or model: dagster-offload redo --outdated")
    if report.events_pending:
        lines.append(
            f"\n{report.events_pending} results not yet shown in Dagster; the next scan, drain or run tells it"
        )
    return lines
