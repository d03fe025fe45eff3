"""Dagster's jobs `scan` and `drain` run by a command, in its own process: the same jobs, the same instance, no daemon."""

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dagster_offload.cli.formatting import duration
from dagster_offload.engine.progress import describe_parts_read
from dagster_offload.errors import LedgerUnavailable
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.rows import State
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.ledger.reports import status
from dagster_offload.ledger.reports.estimate import Estimate, estimate
from dagster_offload.service.postgres_keeper import kept_alive
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import recipes
from dagster_offload.text.plain_text import escaped

CHECK_EVERY_SECONDS = 1.0
PACE_EVERY_LOOKS = 5


def run_job(
    settings: Settings, job_name: str, stages: Sequence[str], console: Console, **config: Any
) -> dict[str, Any]:
    """Run a job to its end and return its step's summary. Raises the `OffloadError` that ended it, and
    `KeyboardInterrupt` when it was told to stop (its claims go back, nothing is lost)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster's words about its own beta features are not for people who drain
        import dagster as dg
        from dagster_postgres.utils import DagsterPostgresException
        from sqlalchemy.exc import OperationalError

        from dagster_offload.definitions import build_definitions
        from dagster_offload.defs.in_process import run_in_process
        from dagster_offload.defs.instance import open_instance

        with (
            _stoppable(),
            open_ledger(settings) as ledger,
            # All the way, also where the job only talks to Dagster and no scan or drain is at work: `stop` has to find
            # whoever would start its Postgres again.
            Worker(ledger, "command"),
            _postgres_kept_alive(settings, ledger),
        ):
            try:
                with open_instance(settings) as instance, _progress(settings, ledger, stages, console):
                    end = run_in_process(build_definitions(), instance, job_name, log_level="CRITICAL", **config)
            except dg.DagsterExecutionInterruptedError as interrupted:
                raise KeyboardInterrupt from interrupted
            except (DagsterPostgresException, OperationalError) as away:
                raise LedgerUnavailable(
                    "Postgres was away for longer than Dagster waits for it. Nothing is lost, and what is done is done: "
                    "say it again once Postgres is back"
                ) from away
    return end.summary


def _postgres_kept_alive(settings: Settings, ledger: Ledger) -> contextlib.AbstractContextManager[None]:
    """Where it is ours: whoever works has nobody else to start it again."""
    return contextlib.nullcontext() if settings.postgres_url is not None else kept_alive(settings.home, ledger.revive)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, and Ctrl-C stops also where a shell's `&` handed it down ignored."""
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
    """A bar per stage on a terminal, as the ledger has it; nothing where nobody looks."""
    if not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[more]}", markup=False),  # names may hold square brackets
    )
    slot = settings.slots.for_prompt()
    over = threading.Event()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bars = {stage: progress.add_task(stage, total=None, more="") for stage in stages}

        def look() -> None:
            pace, looks = "", 0
            while not over.wait(CHECK_EVERY_SECONDS):
                counts = ledger.run(status.stage_counts, recipes(settings))
                if slot is not None and looks % PACE_EVERY_LOOKS == 0:
                    pace = _describe_pace(ledger.run(estimate, slot.name))
                looks += 1
                at_work = [read for read in ledger.run(status.in_parts) if read.state is State.CLAIMED]
                for stage, bar in bars.items():
                    of = counts[stage]
                    total = of.pending + of.claimed + of.deferred + of.done + of.failed + of.quarantined
                    words = [f"{n} {word}" for n, word in ((of.failed, "failed"), (of.deferred, "put off")) if n]
                    words += [
                        f"{escaped(r.document)}: {describe_parts_read(stage, r.done, r.total)}"
                        for r in at_work
                        if r.stage == stage
                    ][:1]
                    if pace and stage == stages[-1]:
                        words.append(pace)
                    progress.update(bar, total=total, completed=of.done + of.failed, more=", ".join(words))

        looking = threading.Thread(target=look, name="progress", daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()


def _describe_pace(pace: Estimate) -> str:
    """`41 documents an hour, 310 tokens/s, 2.3 h left`; empty where it is not known."""
    if pace.documents_per_hour is None or pace.tokens_per_second is None:
        return ""
    left = f", {duration(pace.slot_hours_left * 3600)} left" if pace.slot_hours_left else ""
    return f"{pace.documents_per_hour:.0f} documents an hour, {pace.tokens_per_second:.0f} tokens/s{left}"
