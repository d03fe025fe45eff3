"""Says when the library becomes missing while `up` runs, and when it is back.

The looks are made in a thread, because a network drive that hangs may answer no call for hours.
"""

from functools import partial
from pathlib import Path

from dagster_offload.engine.vanished import why_emptied
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.library.missing import MOUNT_IT, why_missing
from dagster_offload.service.errand import Errand
from dagster_offload.service.say import Say
from dagster_offload.text.plain_text import escaped

EVERY_SECONDS = 15.0
PATIENCE_SECONDS = 30.0  # a disk that sleeps may need ten to start


class LibraryWatch:
    """Prints one line for each change. A library that is there at the first look gets none. `ledger`: the one of the library."""

    def __init__(self, say: Say, ledger: Ledger) -> None:
        self._say = say
        self._ledger = ledger
        self._library: Path | None = None
        self._is_missing = False
        self.errand: Errand[str | None] | None = None  # None: no library is set

    def check(self, library: Path | None) -> None:
        """Start a look if one is due, and say what the last one changed. Does not wait. Call this often."""
        if library != self._library:
            self._library, self._is_missing = library, False
            self.errand = None if library is None else Errand(partial(_look, library, self._ledger), EVERY_SECONDS)
        if self.errand is None or (problem := self.errand.check()) is None:
            return
        was_missing, self._is_missing = self._is_missing, bool(problem)
        name = escaped(str(library))
        if self._is_missing and not was_missing:
            self._say(f"library: {name} {problem}. Nothing changes until its files are back. {MOUNT_IT}")
        elif was_missing and not self._is_missing:
            self._say(f"library: {name} is back")


def _look(library: Path, ledger: Ledger) -> str | None:
    """Why it is missing; empty if it is not, and None if only the ledger knows and is away."""
    try:
        return why_missing(library, PATIENCE_SECONDS) or why_emptied(library, ledger) or ""
    except LedgerUnavailable:
        return None
