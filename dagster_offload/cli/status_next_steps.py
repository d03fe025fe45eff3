"""The lower half of what `status` shows: what waits and why, what needs a person, and the command to run."""

import shlex
from typing import TYPE_CHECKING

from dagster_offload.cli.status_report import PROBLEMS_SHOWN, Report
from dagster_offload.slot.config import NO_DEEP_SLOT
from dagster_offload.text.counts import agreeing, counted
from dagster_offload.text.lists import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dagster_offload.ledger.reports.activity import FailedScan, InWork
    from dagster_offload.ledger.reports.long_documents import LongAhead
    from dagster_offload.ledger.reports.status import DoubtfulGroup, ProblemGroup
    from dagster_offload.settings import Settings


def next_steps(settings: "Settings", report: Report) -> "Iterator[str]":
    """Lines about waiting work and its reason, and about work that needs a person, with the command to run."""
    yield from _about_settings(report)
    yield from _about_waiting(settings, report)
    yield from _about_work(settings, report)
    yield from _about_long_documents(report)
    yield from _about_ocr(settings, report)
    yield from _about_faults(report)
    yield from _about_results(report)


def _about_settings(report: Report) -> "Iterator[str]":
    if not report.has_scanned:
        yield f"\nNo scan has ended yet, so no document is counted: {_first_scan(report)}"
    if report.failed_scan is not None:
        yield f"\n{_failed_scan(report.failed_scan, report)}"
    if report.up is not None and report.up.reload_waits_for:
        yield (
            "\nDagster's definitions changed. Its UI shows them when the running work has ended: "
            f"{report.up.reload_waits_for}. `dagster-offload drain` uses them already."
        )
    if report.pipeline is not None and report.pipeline.problem is not None:
        yield f"\nThe last edit of the settings is not in force: {report.pipeline.problem}"
    if report.difference is not None:
        yield (
            f"\nThe settings here differ from those of the running `up`, so commands that change records refuse to run: "
            f"{report.difference}"
        )


def _about_waiting(settings: "Settings", report: Report) -> "Iterator[str]":
    from dagster_offload.ledger.slots.holds import describe

    if report.room is not None and report.room.shortage is not None:
        yield f"\n{report.room.shortage}"
    for text in describe(hold for hold in report.holds if hold.left):
        yield f"\n{text}"
    waiting = sum(
        counts.pending + counts.deferred - report.in_back_off.get(stage, 0)
        for stage, counts in report.stages.items()
        if stage != "extract" and stage not in report.held_everywhere
    )
    if not waiting:
        return
    if report.room is not None and report.room.shortage is not None:
        yield f"\n{counted(waiting, 'work item')} waiting until the disk has enough free space"
    elif len(report.slots) > 1:
        yield f"\n{counted(waiting, 'work item')} waiting: {_what_several_wait_for(settings, report)}"
    elif settings.slots.deep is None:
        yield f"\n{counted(waiting, 'work item')} waiting: {NO_DEEP_SLOT}"
    else:
        yield f"\n{counted(waiting, 'work item')} waiting for deep: {_what_deep_waits_for(report)}"


def _about_work(settings: "Settings", report: Report) -> "Iterator[str]":
    from dagster_offload.cli.formatting import describe_time

    if report.in_work:
        yield "\nIn work:"
    for work in report.in_work:
        line = f"  {work.document}  {', '.join(work.stages)}, by a {work.worker} since {describe_time(work.since)}"
        yield line + _how_slow(settings, work)
    if in_back_off := sum(report.in_back_off.values()):
        waiting = f"{counted(in_back_off, 'work item')} {agreeing('wait', in_back_off)}"
        yield f"\n{waiting} for the next attempt after a fault (dagster-offload retry DOCUMENT tries it now):"
        for item in report.next_attempts:
            attempt = f"{describe_time(item.at)}, after {counted(item.attempts, 'attempt')}"
            yield f"  {item.document}  {item.stage}: {attempt}: {item.reason or 'no reason is stored'}"


def _how_slow(settings: "Settings", work: "InWork") -> str:
    """What to say of a call that has been open far longer than usual; empty for others."""
    from dagster_offload.cli.formatting import duration

    seconds, usual = work.unanswered_seconds, work.longest_call
    if seconds is None or usual is None or not work.is_slow or not (slots := list(settings.slots)):
        return ""
    longest = max(slots, key=lambda slot: slot.read_timeout)
    limit = f"{duration(longest.read_timeout)} ({longest.setting('read_timeout')})"
    compared = f"the last calls took at most {duration(usual)}"
    return f"; no answer for {duration(seconds)} ({compared}), and its call ends after {limit} at the latest"


def _about_long_documents(report: Report) -> "Iterator[str]":
    from dagster_offload.engine.progress import describe_parts_read

    if report.long_documents:
        yield "\nLong documents in progress, read by page or part:"
    for long in report.long_documents[:PROBLEMS_SHOWN]:
        yield f"  {long.document}  {long.stage} {long.state}: {describe_parts_read(long.stage, long.done, long.total)}"
    if report.long_documents_ahead:
        yield "\nLong documents that wait, after the short ones:"
    for ahead in report.long_documents_ahead:
        yield f"  {ahead.document}  {ahead.stage}: {_describe_ahead(ahead)}"


def _about_ocr(settings: "Settings", report: Report) -> "Iterator[str]":
    from dagster_offload.cli.formatting import duration

    if left := report.ocr.pages:
        pace = "" if report.ocr.pages_per_minute is None else f", {report.ocr.pages_per_minute:.1f} pages a minute"
        time = "" if report.ocr.hours is None else f": about {duration(report.ocr.hours * 3600)}"
        yield f"\nPages that wait for OCR: {left} of {counted(report.ocr.documents, 'document')}{pace}{time}"
    if report.needs_ocr:
        yield f"\n{counted(report.needs_ocr, 'document')} of scanned pages not read yet. {_ocr_advice(settings)}"


def _about_faults(report: Report) -> "Iterator[str]":
    if report.problem_groups:
        yield f"\n{_these(report.problem_groups)} need your attention (dagster-offload explain DOCUMENT shows what happened):"
    for group in report.problem_groups[:PROBLEMS_SHOWN]:
        yield from _describe_problems(group)
    if report.doubtful_groups:
        yield f"\n{_these(report.doubtful_groups)} results are doubtful, so read the documents themselves:"
    for doubt in report.doubtful_groups:
        yield f"  {counted(doubt.count, 'document')}, {doubt.stage}: {', '.join(doubt.marks)}"
        yield f"    {_first_documents(doubt)}"
    if report.unusable_names:
        yield "\nThese files cannot be documents because of their names (rename them):"
    for name, reason in list(report.unusable_names.items())[:PROBLEMS_SHOWN]:
        yield f"  {name}: {reason}"


def _these(groups: "Sequence[ProblemGroup | DoubtfulGroup]") -> str:
    from dagster_offload.ledger.reports.status import MOST_GROUPED

    return f"The oldest {MOST_GROUPED:,}" if sum(group.count for group in groups) >= MOST_GROUPED else "These"


def _describe_problems(group: "ProblemGroup") -> "Iterator[str]":
    """Work that failed for one reason: how much, which documents, and the next step."""
    from dagster_offload.ledger.reports.after_failure import step_after_failure

    others = "; others differ" if group.has_others else ""
    documents = counted(group.count, "document")
    yield f"  {documents}, {group.stage} {group.state}: {group.reason or 'no reason is stored'}{others}"
    yield f"    {_first_documents(group)}"
    name = shlex.quote(group.first[0]) if group.count == 1 else "DOCUMENT"
    selected = (
        name if group.count == 1 or not group.code else f"--stage {group.stage} --reason {shlex.quote(group.code)}"
    )
    look, again = f"dagster-offload explain {name}", f"dagster-offload retry {selected}"
    yield f"    {step_after_failure(group.stage, group.state, group.reason, look=look, again=again)}"


def _first_documents(group: "ProblemGroup | DoubtfulGroup") -> str:
    more = group.count - len(group.first)
    return ", ".join(group.first) + (f" and {more:,} more" if more else "")


def _about_results(report: Report) -> "Iterator[str]":
    from dagster_offload.ledger.archive.outcomes import failure

    if outdated := sum(counts.outdated for counts in report.stages.values()):
        yield (
            f"\n{outdated} results are outdated (made with another prompt, options, model or readers): "
            "dagster-offload redo --outdated"
        )
    if report.corrections_for_review:
        yield f"\n{_describe_reviews(report.corrections_for_review)}"
    for outcome in report.backups:
        if (why := failure(outcome)) is not None:
            yield f"\n{why}"
    if report.events_pending:
        yield (
            f"\nNot in Dagster yet: {counted(report.events_pending, 'result')}; the next scan, drain or run reports them"
        )


def _first_scan(report: Report) -> str:
    if "scan" in report.workers:
        return "the first one is running"
    return (
        "`up` begins with one" if report.up is not None else "run `dagster-offload scan`, or start `dagster-offload up`"
    )


def _failed_scan(failed: "FailedScan", report: Report) -> str:
    from dagster_offload.cli.formatting import describe_time

    last = f"The last scan failed at {describe_time(failed.failed_at)}"
    if report.up is None or "library_sensor" in report.stopped_sensors:
        return f"{last}: {failed.why}"
    return (
        f"{last}; if files still differ, the next one is at {describe_time(failed.next_by)} at the latest: {failed.why}"
    )


def _what_deep_waits_for(report: Report) -> str:
    """What the waiting work waits for if `deep` is the only slot. A rest comes first: until its end nothing else counts."""
    if (rest := report.rest_of("deep")) is not None:
        again = f"`dagster-offload resume {rest.slot}`" if rest.kind == "paused" else "the slot is used again"
        ending = ", and a drain waits for its open calls" if "drain" in report.workers else ""
        return f"until {again}{ending}"
    if report.slot is not None and report.slot.breaker != "closed":
        return report.slot.reason_text
    if report.deep["healthy"] is False:
        return report.running.describe_unhealthy(str(report.deep["reason"]))
    return _who_drains(report)


def _who_drains(report: Report) -> str:
    if report.has_free or "drain" in report.workers:
        return report.running.who_drains
    return "none is due now (dagster-offload explain DOCUMENT)"


def _what_several_wait_for(settings: "Settings", report: Report) -> str:
    """What the waiting work waits for if there are several slots. A stage may be for slots that are all unavailable."""
    from dagster_offload.stages.catalog import stages_by_slot

    available = {each.config.name: each.is_available for each in report.slots}
    if not any(available.values()):
        return "no slot is available"
    by_slot, held = stages_by_slot(settings, report.stages), {(hold.slot, hold.stage) for hold in report.holds}
    stuck = [
        f"{stage} waits for {listed(slots, 'or')}"
        for stage in report.stages
        if (slots := [name for name in available if stage in by_slot[name] and (name, stage) not in held])
        and not any(map(available.get, slots))
    ]
    return "; ".join((_who_drains(report), *stuck))


def _describe_reviews(documents: int) -> str:
    have = f"{counted(documents, 'file')} {agreeing('have', documents)}"
    return f"{have} changed since you corrected the record; review the corrections: dagster-offload correct --list"


def _describe_ahead(ahead: "LongAhead") -> str:
    from dagster_offload.cli.formatting import duration

    hours = "" if ahead.hours is None else f", about {duration(ahead.hours * 3600)} of the slot's time"
    return f"about {ahead.parts} parts{hours}"


def _ocr_advice(settings: "Settings") -> str:
    from dagster_offload.extraction.ocr.tesseract import find_reader

    advice = find_reader(settings.ocr, settings.ocr_languages).advice
    command = "dagster-offload redo --needs-ocr"
    if advice:
        return f"{advice}; then run {command}"
    return f"To read them, run {command}. `dagster-offload explain DOCUMENT` shows what one lacks"
