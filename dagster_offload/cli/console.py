"""Terminal output: tables on standard output, progress on standard error. `formatting.py` prints plain text and JSON."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dagster_offload.cli.formatting import is_quiet
from dagster_offload.text.plain_text import escaped


# Markup is off everywhere because names of documents and folders may contain square brackets.
def to_terminal(what: RenderableType) -> None:
    """Print a table or text on standard output."""
    Console(markup=False, emoji=False, highlight=False, width=_width(sys.stdout)).print(what)


class _Progress:
    """Standard error, for progress. A line that cannot be written is lost, and the work goes on: the disk of a log may be full,
    a terminal closed, or the reader of a pipe gone."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def progress_console() -> Console:
    """A console on standard error, so that standard output stays free for `--json` and pipes."""
    return Console(
        file=cast(IO[str], _Progress()),
        stderr=True,
        markup=False,
        emoji=False,
        highlight=False,
        width=_width(sys.stderr),
        soft_wrap=True,
        quiet=is_quiet(),
    )


def style_of(line: str) -> str | None:
    """The colour of a line that says what went wrong or well. rich leaves colours out without a terminal and with NO_COLOR."""
    if any(word in line for word in ("failed", "quarantined", "misconfigured", "is held", "not in force")):
        return "red"
    if any(word in line for word in ("unavailable", "away", "cannot be listed", "is empty")):
        return "yellow"
    return "green" if "is back" in line or "all done" in line else None


@contextmanager
def showing_rows(doing: str) -> Iterator[Callable[[str, int], None]]:
    """A progress line on a terminal: the table in progress and its rows. Yields the function that updates it."""
    with progress_console().status(f"{doing} ...") as line:
        yield lambda table, rows: line.update(f"{doing} {table}: {rows:,} rows")


def _width(stream: TextIO) -> int | None:
    """Columns of output: None uses the terminal's own width; without a terminal, 120 fits a table into a log."""
    return None if stream.isatty() else 120


def columns_of_terminal() -> int:
    """The width in which a table on standard output is shown."""
    return Console(width=_width(sys.stdout)).width


# A state that needs nothing has no colour.
_STYLES = {"done": "green", "deferred": "yellow", "claimed": "cyan", "failed": "red", "quarantined": "red"}


def state_style(state: str) -> str:
    """The colour of a state; empty for one without a colour."""
    return _STYLES.get(state, "")


def styled(text: str, style: str) -> Text:
    """Text for a cell in a colour. Control characters are escaped."""
    return Text(escaped(text), style=style)


def lines_of(parts: Iterable[str]) -> Text:
    """Lines of text for a cell; those without text are left out. Control characters are escaped."""
    return Text("\n").join(Text(escaped(part)) for part in parts if part)


class _EscapedTable(Table):
    """A table that escapes control characters in its cells, which may contain names and text from outside."""

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        super().add_row(*(escaped(cell) if isinstance(cell, str) else cell for cell in cells), **more)


def table(*columns: str) -> Table:
    """An empty table with these column headers. Long cells wrap."""
    shown = _EscapedTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, overflow="fold")
    return shown
