"""Runs Dagster's jobs `scan` and `drain` in the process of a command: same jobs, same instance, no daemon."""

import contextlib
import errno
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from typing import TypeVar

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from dagster_offload.cli.stage_bars import showing_stages
from dagster_offload.errors import LedgerAway
from dagster_offload.host.python_process import importing
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import open_ledger
from dagster_offload.ledger.core.workers import Worker
from dagster_offload.service.home import running_up
from dagster_offload.service.postgres_keeper import kept_alive
from dagster_offload.settings import Settings

SummaryT = TypeVar("SummaryT")


def run_job(
    settings: Settings,
    job_name: str,
    summary_type: type[SummaryT],
    stages: Sequence[str],
    console: Console,
    **config: object,
) -> SummaryT:
    """Run a job to its end and return the summary of its step, which has the type `summary_type`.

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
                with open_instance(settings) as instance, showing_stages(settings, ledger, stages, console):
                    launched_by = UP if _is_below_up(settings) else TERMINAL  # `up` starts the first scan
                    summary = run_in_process(
                        definitions, instance, job_name, log_level="CRITICAL", launched_by=launched_by, **config
                    )
            except dg.DagsterExecutionInterruptedError as interrupted:
                raise KeyboardInterrupt from interrupted
            except (DagsterPostgresException, OperationalError) as unavailable:
                raise LedgerAway(
                    "Postgres was unavailable for longer than Dagster waits. Nothing is lost, and finished work is stored. "
                    "Run the command again when Postgres is back"
                ) from unavailable
    if not isinstance(summary, summary_type):
        raise TypeError(f"the step of the job {job_name} returned a {type(summary).__name__}")
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
    """Let SIGTERM, and SIGHUP of a closed terminal, stop the command like Ctrl-C. An ignored SIGHUP stays ignored, as
    `nohup` requires.

    Also enable Ctrl-C where the shell's `&` made the process ignore it.
    """
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    terminals = [fd for fd in (1, 2) if os.isatty(fd)]  # one that is closed is none for `isatty`
    was_closed = False

    def stop_after_close(*_: object) -> None:
        nonlocal was_closed
        if was_closed:  # the shell sends one, and its end another: it must not interrupt the end of the work
            return
        was_closed = True
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    if before[signal.SIGHUP] != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, stop_after_close)
    try:
        yield
    except OSError as error:
        if was_closed and error.errno == errno.EIO:  # the bars were written to the closed terminal
            raise KeyboardInterrupt from error
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if was_closed:
            for fd in terminals:  # the command's last line goes nowhere, and must not be an error
                os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
