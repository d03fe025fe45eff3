"""The bars of `scan` and `drain` on a terminal: one per stage, from the ledger."""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dagster_offload.cli.formatting import duration
from dagster_offload.engine.progress import describe_parts_read
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.estimate import Estimate, estimate
from dagster_offload.ledger.slots import holds
from dagster_offload.ledger.work import ocr_pages
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes, splitting
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

CHECK_EVERY_SECONDS = 1.0
UPDATES_PER_PACE = 5
STOP_SECONDS = 1.0  # the thread may wait for Postgres

COLUMNS = (
    TextColumn("{task.description:<10}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[more]}", markup=False),  # names may contain square brackets
    TimeElapsedColumn(),
)


class StageBars:
    """One bar per stage. `update` reads the ledger; the bars stay as they are while Postgres is unavailable."""

    def __init__(self, settings: Settings, ledger: Ledger, stages: Sequence[str], progress: Progress) -> None:
        self._settings = settings
        self._ledger = ledger
        self._progress = progress
        self._slots = [slot.name for slot in settings.slots.of_drains or settings.slots]
        self._bars: dict[str, TaskID] = {stage: progress.add_task(stage, total=None, more="") for stage in stages}
        self._pace = ""
        self._updates = 0

    def update_until(self, is_over: threading.Event) -> None:
        """Update the bars every second."""
        while not is_over.wait(CHECK_EVERY_SECONDS):
            with contextlib.suppress(LedgerUnavailable):  # the job itself reports it
                self.update()

    def update(self) -> None:
        """Show what the ledger has now. Raises `LedgerUnavailable`."""
        counts = self._ledger.run(status.stage_counts, recipes(self._settings))
        if self._slots and self._updates % UPDATES_PER_PACE == 0:
            self._pace = _describe_pace(self._ledger.run(self._estimate))
        self._updates += 1
        parts = self._parts_in_work()
        last = next(reversed(self._bars), None)
        for stage, bar in self._bars.items():
            count = counts[stage]
            total = count.pending + count.claimed + count.deferred + count.done + count.failed + count.quarantined
            notes = [f"{n} {state}" for n, state in ((count.failed, "failed"), (count.deferred, "deferred")) if n]
            notes += [parts[stage]] if stage in parts else []
            notes += [self._pace] if self._pace and stage == last else []
            self._progress.update(bar, total=total, completed=count.done + count.failed, more=", ".join(notes))

    def _estimate(self, cur: Cursor) -> Estimate:
        held = holds.held_everywhere(self._settings, holds.list_holds(cur))
        return estimate(cur, *self._slots, splitting=splitting(self._settings), held_everywhere=held)

    def _parts_in_work(self) -> dict[str, str]:
        """By stage, what was read of the first long document in work."""
        pages = self._ledger.run(ocr_pages.left) if EXTRACT in self._bars else None
        per_minute = pages.pages_per_minute if pages is not None else None
        shown: dict[str, str] = {}
        for read in self._ledger.run(status.in_parts):
            if read.state is State.CLAIMED:
                parts = describe_parts_read(read.stage, read.done, read.total, per_minute)
                shown.setdefault(read.stage, f"{escaped(read.document)}: {parts}")
        return shown


@contextlib.contextmanager
def showing_stages(settings: Settings, ledger: Ledger, stages: Sequence[str], console: Console) -> Iterator[None]:
    """Show the bars during the block. Does nothing if the output is not a terminal."""
    if not console.is_terminal:
        yield
        return
    is_over = threading.Event()
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        bars = StageBars(settings, ledger, stages, progress)
        thread = threading.Thread(target=bars.update_until, args=(is_over,), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join(STOP_SECONDS)


def _describe_pace(pace: Estimate) -> str:
    """`41 documents an hour, 310 tokens/s, 2.3 h left`; empty if it is not known."""
    if pace.documents_per_hour is None or pace.tokens_per_second is None:
        return ""
    left = f", {duration(pace.slot_hours_left * 3600)} left" if pace.slot_hours_left else ""
    return f"{pace.documents_per_hour:.0f} documents an hour, {pace.tokens_per_second:.0f} tokens/s{left}"
