"""Format tables as Markdown and notes as text in brackets, and simplify Markdown of other programs."""

import re
from collections.abc import Iterable, Sequence

# Few cells need the slow path: those with bars, line ends, or blanks to collapse.
_NOT_PLAIN = re.compile(r"[|\n\t\r\f\v\xa0]|  |^ | $")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+\-.!~<>&])")  # "1\\. Rent" is harder to read than "1. Rent"
_LINK = re.compile(r"(?<![\\!])\[((?!\^)(?:[^\[\]\\\n]|\\.){1,1000})\]\([^()\s]{1,4000}\)")
_EMPTY_ROW = re.compile(r"^\|[ |]*\|\n", re.MULTILINE)
_ONE_CELL = re.compile(r"^\| ((?:[^|\n\\]|\\.)*) \|\n\| --- \|$(?!\n\|)", re.MULTILINE)
_BREAK = "<br>"  # a line end in a cell
Row = dict[int, str]  # the texts of a row's cells, by column
_ONLY_MARKUP = re.compile(r"(?:[\s|:#>*_\-\\]|\[\^\d+\])*")
# A table of which less is filled is written without its places: a small file can ask for billions of them.
_LEAST_FILLED, _MOST_PLACES = 0.01, 1_000_000
_RULE = re.compile(r"\|(?: --- \|)+")


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a Markdown table, "" if all cells are blank. A single cell is returned as plain text."""
    filled = [[_one_line(cell) for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not filled:
        return ""
    if len(rows) == 1 and len(rows[0]) == 1:
        return rows[0][0]
    width = max(map(len, filled))
    wanted = 0 if _is_sparse(len(filled) * width, sum(map(len, filled))) else width
    lines = ["| " + " | ".join([*row, *[""] * (wanted - len(row))]) + " |" for row in filled]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])


def placed_table_text(rows: Iterable[Row]) -> str:
    """Return rows as a Markdown table in which each cell is below the others of its column."""
    kept = [row for row in rows if row]
    columns = sorted({column for row in kept for column in row})
    if _is_sparse(len(kept) * len(columns), sum(map(len, kept))):
        return table_text([[row[column] for column in sorted(row)] for row in kept])
    return table_text([[row.get(column, "") for column in columns] for row in kept])


def _is_sparse(places: int, cells: int) -> bool:
    return places > _MOST_PLACES and cells < _LEAST_FILLED * places


def _one_line(cell: str) -> str:
    """Return a cell's text on one line. Separates the cells of a nested table by commas."""
    if not _NOT_PLAIN.search(cell):
        return cell
    lines = [line for line in cell.split("\n") if not _RULE.fullmatch(line)]
    inner = [
        line[2:-2].replace(" | ", ", ") if line.startswith("| ") and line.endswith(" |") else line for line in lines
    ]
    return re.sub(r"(?<!\\)\|", r"\|", " ".join(" ".join(inner).split()))


def note_text(texts: Iterable[str]) -> str:
    """Return a footnote in brackets, to be placed at its reference; "" for an empty one."""
    text = " ".join(text.strip() for text in texts if text.strip())
    return f"[{text}]" if text else ""


def plain_markdown(text: str) -> str:
    """Return Markdown without escapes, addresses of links, empty table rows and tables of one cell.

    Returns "" if it consists only of markup.
    """
    if _ONLY_MARKUP.fullmatch(text):
        return ""
    text = _LINK.sub(r"\1", text)
    boxes = _ONE_CELL.sub(lambda box: box[1].replace(_BREAK, "\n"), _EMPTY_ROW.sub("", text))
    return _ESCAPE.sub(r"\1", boxes.replace(_BREAK, " "))
