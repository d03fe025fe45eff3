"""Runs Dagster's jobs `scan` and `drain` in the process of a command: same jobs, same instance, no daemon."""

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dagster_offload.cli.formatting import duration
from dagster_offload.engine.progress import describe_parts_read
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.host.python_process import importing
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.estimate import Estimate, estimate
from dagster_offload.ledger.work import ocr_pages
from dagster_offload.service.home import running_up
from dagster_offload.service.postgres_keeper import kept_alive
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.text.plain_text import escaped

CHECK_EVERY_SECONDS = 1.0
UPDATES_PER_PACE = 5


def run_job(
    settings: Settings, job_name: str, stages: Sequence[str], console: Console, **config: Any
) -> dict[str, Any]:
    """Run a job to its end and return the summary of its step.

    Raises the `OffloadError` that ended the job, or `KeyboardInterrupt` when a signal stopped it. The job then releases
    its claims, and nothing is lost.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Dagster's warnings about its own beta features do not concern users of these commands
        with importing():
            import dagster as dg
            from dagster_postgres.utils import DagsterPostgresException
            from sqlalchemy.exc import OperationalError

            from dagster_offload.definitions import build_definitions
            from dagster_offload.defs.execution.in_process import run_in_process
            from dagster_offload.defs.instance import open_instance
            from dagster_offload.defs.names import TERMINAL, UP

            definitions = build_definitions()

        with (
            _stoppable(),
            open_ledger(settings) as ledger,
            # Registered for the whole command, also while the job only reports to Dagster: `stop` must find every process
            # that could restart its Postgres.
            Worker(ledger, "command"),
            _postgres_kept_alive(settings, ledger),
        ):
            try:
                with open_instance(settings) as instance, _progress(settings, ledger, stages, console):
                    launched_by = UP if _is_below_up(settings) else TERMINAL  # `up` starts the first scan
                    summary = run_in_process(
                        definitions, instance, job_name, log_level="CRITICAL", launched_by=launched_by, **config
                    )
            except dg.DagsterExecutionInterruptedError as interrupted:
                raise KeyboardInterrupt from interrupted
            except (DagsterPostgresException, OperationalError) as unavailable:
                raise LedgerUnavailable(
                    "Postgres was unavailable for longer than Dagster waits. Nothing is lost, and finished work is stored. "
                    "Run the command again when Postgres is back"
                ) from unavailable
    return summary


def _is_below_up(settings: Settings) -> bool:
    """Whether the `up` of this home started this process, or the prefork server of that `up` forked it."""
    up = running_up(settings.home)
    return up is not None and up.pid in {parent.pid for parent in psutil.Process().parents()}


def _postgres_kept_alive(settings: Settings, ledger: Ledger) -> contextlib.AbstractContextManager[None]:
    """Keep the embedded Postgres running during the command. Without `up`, no other process restarts it."""
    return contextlib.nullcontext() if settings.postgres_url is not None else kept_alive(settings.home, ledger.revive)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop the command like Ctrl-C. Also enable Ctrl-C where the shell's `&` made the process ignore it."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def _progress(settings: Settings, ledger: Ledger, stages: Sequence[str], console: Console) -> Iterator[None]:
    """Show one progress bar per stage, from the ledger. Does nothing if the output is not a terminal."""
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}", markup=False),  # names may contain square brackets
    )
    slots = [slot.name for slot in settings.slots.of_drains or settings.slots]
    is_over = threading.Event()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bars = {stage: progress.add_task(stage, total=None, more="") for stage in stages}

        def update() -> None:
            pace, updates = "", 0
            while not is_over.wait(CHECK_EVERY_SECONDS):
                counts = ledger.run(status.stage_counts, recipes(settings))
                if slots and updates % UPDATES_PER_PACE == 0:
                    pace = _describe_pace(ledger.run(estimate, *slots))
                updates += 1
                pages = ledger.run(ocr_pages.left) if EXTRACT in bars else None
                claimed = [read for read in ledger.run(status.in_parts) if read.state is State.CLAIMED]
                for stage, bar in bars.items():
                    count = counts[stage]
                    total = (
                        count.pending + count.claimed + count.deferred + count.done + count.failed + count.quarantined
                    )
                    notes = [
                        f"{n} {state}" for n, state in ((count.failed, "failed"), (count.deferred, "deferred")) if n
                    ]
                    per_minute = pages.pages_per_minute if pages is not None else None
                    notes += [
                        f"{escaped(r.document)}: {describe_parts_read(stage, r.done, r.total, per_minute)}"
                        for r in claimed
                        if r.stage == stage
                    ][:1]
                    if pace and stage == stages[-1]:
                        notes.append(pace)
                    progress.update(bar, total=total, completed=count.done + count.failed, more=", ".join(notes))

        thread = threading.Thread(target=update, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _describe_pace(pace: Estimate) -> str:
    """`41 documents an hour, 310 tokens/s, 2.3 h left`; empty if it is not known."""
    if pace.documents_per_hour is None or pace.tokens_per_second is None:
        return ""
    left = f", {duration(pace.slot_hours_left * 3600)} left" if pace.slot_hours_left else ""
    return f"{pace.documents_per_hour:.0f} documents an hour, {pace.tokens_per_second:.0f} tokens/s{left}"
