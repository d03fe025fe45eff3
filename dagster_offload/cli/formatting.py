"""Plain output: times and durations as text, and one JSON object for scripts. Unlike `console.py`, it does not import rich."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from dagster_offload.text.durations import duration as duration
from dagster_offload.text.plain_text import escaped_json, escaped_lines


def print_json(value: dict[str, Any]) -> None:
    """Print one indented JSON object. Times are in ISO 8601."""
    click.echo(escaped_json(json.dumps(value, ensure_ascii=False, indent=2, default=_plain)))


def say(text: str, *, err: bool = False) -> None:
    """Print text that may come from outside. Control characters are escaped, so they cannot control the terminal."""
    click.echo(escaped_lines(text), err=err)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def describe_time(moment: datetime | None, now: datetime | None = None) -> str:
    """A local time and its distance from now: `14:02:10 (in 12 s)`, `09:30:00 (3.0 h ago)`; empty for None."""
    if moment is None:
        return ""
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    distance = f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"
    return f"{moment.astimezone():%H:%M:%S} ({distance})"
