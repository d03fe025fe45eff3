"""What commands print on a terminal: tables on standard output, progress on standard error. Words and JSON: `words.py`."""

import sys
from typing import Any, TextIO

from rich.console import Console, RenderableType
from rich.table import Table

from dagster_offload.text.plain_text import escaped


# No markup anywhere: names of documents and folders may hold square brackets.
def to_terminal(what: RenderableType) -> None:
    Console(markup=False, emoji=False, highlight=False, width=_width(sys.stdout)).print(what)


def progress_console() -> Console:
    """Standard error, so that `--json` and pipes keep standard output for themselves."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, width=_width(sys.stderr), soft_wrap=True)


def _width(stream: TextIO) -> int | None:
    """Where nobody's terminal says how wide it is, wide enough for a table in a log."""
    return None if stream.isatty() else 120


class _EscapedTable(Table):
    """Cells may hold names and words of others."""

    def add_row(self, *cells: RenderableType | None, **more: Any) -> None:
        super().add_row(*(escaped(cell) if isinstance(cell, str) else cell for cell in cells), **more)


def table(*columns: str) -> Table:
    shown = _EscapedTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, overflow="fold")
    return shown
