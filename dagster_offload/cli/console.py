"""What commands print with: tables on standard output, progress on standard error, one JSON object for scripts."""

import json
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import click
from rich.console import Console, RenderableType
from rich.table import Table


# No markup anywhere: names of documents and folders may hold square brackets.
def to_terminal(what: RenderableType) -> None:
    Console(markup=False, emoji=False, highlight=False, width=_width(sys.stdout)).print(what)


def progress_console() -> Console:
    """Standard error, so that `--json` and pipes keep standard output for themselves."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, width=_width(sys.stderr), soft_wrap=True)


def _width(stream: TextIO) -> int | None:
    """Where nobody's terminal says how wide it is, wide enough for a table in a log."""
    return None if stream.isatty() else 120


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def table(*columns: str) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, overflow="fold")
    return shown


def in_words(moment: datetime | None, now: datetime | None = None) -> str:
    """A time beside its distance from now: `14:02 (in 12 s)`, `09:30 (3 h ago)`; empty for None."""
    if moment is None:
        return ""
    seconds = (moment - (now or datetime.now(UTC))).total_seconds()
    distance = f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"
    return f"{moment.astimezone():%H:%M:%S} ({distance})"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
