"""What `slot show` prints: a table of the slots, what is known of each, and how one was used."""

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from dagster_offload.ledger.core.rows import SlotRow
    from dagster_offload.ledger.reports.overview import SlotUse
    from dagster_offload.ledger.slots.holds import Hold


def print_slots(
    rows: "Sequence[SlotRow]", held: "Sequence[Hold]", findings: "Mapping[str, Any]", *, is_checked: bool
) -> None:
    """A table of the slots, and what is known of each. `is_checked`: a process is alive that checks unavailable ones."""
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import say
    from dagster_offload.ledger.slots.holds import describe
    from dagster_offload.slot.dialects import Dialects, dialects_in_words

    shown = table("slot", "model", "router", "concurrency", "prompt cache size", "state", "reason", "next check")
    for row in rows:
        shown.add_row(
            row.name,
            row.model,
            row.shown_url,
            f"{row.permits} (auto)" if row.is_auto else str(row.permits),
            _describe_prompt_cache_size(row),
            row.breaker.in_words,
            row.reason or "",
            _describe_next_check(row, is_checked=is_checked),
        )
    to_terminal(shown)
    for text in describe(held):
        say(text)
    for row in rows:
        if (description := describe_concurrency(row)) is not None:
            say(f"{row.name}: {description}")
        if row.name in findings:
            for line in dialects_in_words(Dialects(findings[row.name])):
                click.echo(f"{row.name}: {line}")


def print_hours(hours: "Mapping[datetime, SlotUse]") -> None:
    """A table of the hours, the present one first. Whether the slot was available is known as far as work was due."""
    from dagster_offload.cli.console import table, to_terminal

    shown = table("hour", "available", "calls", "without an answer", "tokens/s", "prompt from cache")
    for begins_at, use in hours.items():
        shown.add_row(
            f"{begins_at.astimezone():%a %H:%M}",
            "-" if use.available_share is None else f"{use.available_share:.0%}",
            str(use.calls or "-"),
            str(use.unanswered or "-"),
            "-" if use.tokens_per_second is None else f"{use.tokens_per_second:.0f}",
            "-" if use.cached_share is None else f"{use.cached_share:.0%}",
        )
    click.echo("")
    to_terminal(shown)


def _describe_next_check(row: "SlotRow", *, is_checked: bool) -> str:
    """When an unavailable slot is checked again. `is_checked`: a process is alive that does so by itself."""
    from dagster_offload.cli.formatting import describe_time

    if row.retry_at is None and not row.is_retry_due:
        return ""
    if not is_checked:
        return "by `drain` or `up`"
    return "now" if row.is_retry_due else describe_time(row.retry_at)


def _describe_prompt_cache_size(row: "SlotRow") -> str:
    if not row.prompt_cache_size:
        return ""
    return f"{row.prompt_cache_size} ({'set by you' if row.prompt_cache_size_from == 'person' else 'reported'})"


def found_concurrency(row: "SlotRow") -> dict[str, Any] | None:
    """What `auto` last found for a slot: `concurrency`, `call_seconds`, `speed_up`; None if it has found nothing yet."""
    if row.concurrency_found is None:
        return None
    return dict(row.concurrency_found)


def describe_concurrency(row: "SlotRow") -> str | None:
    """What `auto` found for a slot, in one line; None if the concurrency is fixed, or nothing is found yet."""
    found = found_concurrency(row)
    if not row.is_auto or found is None:
        return None
    count, speed_up = found["concurrency"], found["speed_up"]
    gain = f", {speed_up:g} times the throughput of 1" if count > 1 and speed_up else ""
    return f"auto found that a concurrency of {count} is best: {found['call_seconds']:g} s per call{gain}"
