"""Plain output: times and durations as text, and one JSON object for scripts. Unlike `console.py`, it does not import rich."""

import json
import sys
from datetime import UTC, datetime
from typing import Any

import click

from dagster_offload.text.durations import duration as duration
from dagster_offload.text.plain_text import escaped, escaped_json, escaped_lines


def print_json(value: dict[str, Any]) -> None:
    """Print one indented JSON object. Times are in ISO 8601."""
    click.echo(as_json(value, indent=2))


def as_json(value: Any, indent: int | None = None) -> str:
    """The value as JSON, with only ASCII if standard output cannot encode more."""
    from dagster_offload.cli import is_utf8

    is_ascii = not is_utf8(sys.stdout)
    return escaped_json(json.dumps(value, ensure_ascii=is_ascii, indent=indent, default=_plain))


def print_check(name: str, found: str, *, is_ok: bool, width: int) -> None:
    """Print the line of one check: `ok  health      HTTP 200`. `width`: columns of the name."""
    mark = click.style("ok  ", fg="green") if is_ok else click.style("no  ", fg="red")
    click.echo(f"{mark}{name:<{width}} {escaped(found)}")


def say(text: str, *, err: bool = False) -> None:
    """Print text that may come from outside. Control characters are escaped, so they cannot control the terminal.

    With --quiet, what goes to standard error is not printed.
    """
    if not (err and is_quiet()):
        click.echo(escaped_lines(text), err=err)


def is_quiet() -> bool:
    """Whether the command was given --quiet."""
    from dagster_offload.cli import QUIET

    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get(QUIET))


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def describe_time(moment: datetime | None) -> str:
    """A local time and its distance from now: `14:02:10 (in 12 s)`, `09:30:00 (3.0 h ago)`; empty for None."""
    if moment is None:
        return ""
    seconds = (moment - datetime.now(UTC)).total_seconds()
    distance = f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"
    return f"{moment.astimezone():%H:%M:%S} ({distance})"
