"""The outcomes of fault matrix rows, for the printed table."""

from dataclasses import dataclass


@dataclass
class Played:
    """A row of the printed table. `seen` is None until the row has ended."""

    row: str
    transport: str
    promised: str
    seen: str | None = None
    is_kept: bool = False
