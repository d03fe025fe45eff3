"""Tables as text: rows as lines, cells held apart by bars, as Markdown writes them."""

from collections.abc import Sequence


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a Markdown table, "" where nothing is in them. A frame of one cell is no table but a box of text."""
    filled = [[" ".join(cell.split()) for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if not filled:
        return ""
    if len(rows) == 1 and len(rows[0]) == 1:
        return rows[0][0]
    width = max(map(len, filled))
    lines = ["| " + " | ".join([*row, *[""] * (width - len(row))]) + " |" for row in filled]
    return "\n".join([lines[0], "|" + " --- |" * width, *lines[1:]])
