"""`dagster-offload status`: what is done, what is waiting, and why. Registers nothing, imports no Dagster."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli.in_force import read_in_force, read_in_force_and_warning
from dagster_offload.cli.options import deep_options, home_option, json_option
from dagster_offload.cli.status_report import Report, load_report

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.core.rows import SlotRow
    from dagster_offload.settings import Settings

# While nothing changes in the ledger, `--watch` probes the slot this often. Changes are shown at most every two seconds.
PROBE_EVERY_SECONDS = 15.0
SHOW_EVERY_SECONDS = 2.0


@click.command("status")
@home_option
@deep_options
@json_option
@click.option(
    "--watch",
    is_flag=True,
    help="Show it again whenever something changes, until Ctrl-C. Starts nothing while the home is stopped.",
)
def command(*, as_json: bool, watch: bool) -> None:
    """Show what is done, what is waiting, and why.

    \b
    dagster-offload status
    dagster-offload status --watch
    dagster-offload status --json | jq .stages.summarize
    """
    from dagster_offload.cli.formatting import print_json

    if watch and as_json:
        raise click.UsageError("--json is one object, and --watch shows many reports: leave one out")
    if as_json:
        print_json(as_object(load_report(read_in_force().settings)))
    elif watch:
        _watch()
    else:
        _show()


def _show(*, starts_postgres: bool = True) -> None:
    from dagster_offload.cli.status_text import print_report

    loaded, warning = read_in_force_and_warning()  # they may have been edited since the last time
    report = load_report(loaded.settings, starts_postgres=starts_postgres)
    if report.pipeline is not None and warning is not None:  # it names the same fault
        report = replace(report, pipeline=replace(report.pipeline, problem=None))
    print_report(loaded, report)


def _watch() -> None:
    """Show the report, and again after each change, until Ctrl-C. While the home is stopped, say so and start nothing."""
    import signal

    from dagster_offload.errors import HomeStopped
    from dagster_offload.postgres import is_running
    from dagster_offload.service.pipeline import read_settings_in_force

    interrupt = _Interrupt()
    signal.signal(signal.SIGINT, interrupt.handle)
    loaded, _ = read_settings_in_force()  # each report says if an edit is not valid
    settings = loaded.settings
    with suppress(KeyboardInterrupt):
        while True:
            try:
                _show_changes(settings, interrupt)
            except HomeStopped as stopped:
                _clear()
                click.echo(f"{stopped}. This goes on when it runs again.")
                sys.stdout.flush()
                with interrupt.ends_this():
                    while not is_running(settings.home):
                        time.sleep(SHOW_EVERY_SECONDS)


def _show_changes(settings: "Settings", interrupt: "_Interrupt") -> None:
    """Show the report, and again after each change. Raises `HomeStopped`."""
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is

    with ExitStack() as stack:
        with interrupt.ends_this():
            ledger = stack.enter_context(open_ledger_as_it_is(settings, starts_postgres=False))
        for _ in _changes(ledger, interrupt):
            _clear()
            _show(starts_postgres=False)
            sys.stdout.flush()


def _clear() -> None:
    if sys.stdout.isatty():
        click.clear()


class _Interrupt:
    """Ctrl-C. It ends a wait at once, and a report when it is complete; a second one ends that at once, too.

    Python may run a signal handler within a destructor, where it prints an exception with its traceback and goes on.
    """

    def __init__(self) -> None:
        self._is_requested = self._is_waiting = False

    def handle(self, signum: int, frame: object) -> None:
        """The handler of the signal."""
        is_second, self._is_requested = self._is_requested, True
        if self._is_waiting or is_second:
            raise KeyboardInterrupt

    @contextmanager
    def ends_this(self) -> Iterator[None]:
        """Wait in this block. Raises `KeyboardInterrupt` at Ctrl-C, also if it came before."""
        self._is_waiting = True
        try:
            if self._is_requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_waiting = False


def _changes(ledger: "Ledger", interrupt: _Interrupt) -> Iterator[None]:
    """Yield at once, after each change that the ledger notifies, and when the slot must be probed again."""
    from dagster_offload.ledger.core.database import CONNECTION_LOST

    while True:
        try:
            with ledger.connect() as connection:
                connection.execute(f"listen {ledger.channel}".encode())
                while True:
                    yield
                    with interrupt.ends_this():
                        list(connection.notifies(timeout=PROBE_EVERY_SECONDS, stop_after=1))
                        time.sleep(SHOW_EVERY_SECONDS)
                        list(connection.notifies(timeout=0))  # those that came meanwhile are shown together
        except CONNECTION_LOST:
            with interrupt.ends_this():
                time.sleep(SHOW_EVERY_SECONDS)
            yield  # reading the report waits for Postgres, or raises an error that says that it is gone


def as_object(report: Report) -> dict[str, Any]:
    """The object of `--json`."""
    return {
        "deep": report.deep,
        "slots": {each.config.name: each.state for each in report.slots},
        "library": report.library and asdict(report.library),
        "rests": [asdict(rest) for rest in report.rests],
        "holds": [hold.facts for hold in report.holds],
        "wakes": report.wakes,
        "up": report.up and asdict(report.up),
        "workers": report.workers,
        "in_work": [asdict(work) for work in report.in_work],
        "stopped_sensors": report.stopped_sensors,
        "has_scanned": report.has_scanned,
        "failed_scan": report.failed_scan and asdict(report.failed_scan),
        "stages": {
            stage: asdict(counts)
            | {
                "in_back_off": report.in_back_off.get(stage, 0),
                "not_applicable": report.not_applicable.get(stage, 0),
            }
            for stage, counts in report.stages.items()
        },
        "next_attempts": [asdict(attempt) for attempt in report.next_attempts],
        "events_pending": report.events_pending,
        "concurrency": _concurrency(report.slot),
        "estimate": asdict(report.estimate),
        "last_drain": report.last_drain and asdict(report.last_drain),
        "long_documents": [asdict(read) for read in report.long_documents],
        "long_documents_ahead": [asdict(ahead) for ahead in report.long_documents_ahead],
        "needs_ocr": report.needs_ocr,
        "pipeline": _pipeline(report),
        "ocr": asdict(report.ocr) | {"hours": report.ocr.hours},
        "backups": [asdict(outcome) for outcome in report.backups],
        "disk": report.room
        and {
            "free_bytes": report.room.free_bytes,
            "needed_bytes": report.room.needed_bytes,
            "problem": report.room.shortage,
        },
        "problems": [asdict(problem) for problem in report.problems],
        "problem_groups": [asdict(group) for group in report.problem_groups],
        "doubtful": [asdict(result) for result in report.doubtful],
        "doubtful_groups": [asdict(group) for group in report.doubtful_groups],
        "corrections_for_review": report.corrections_for_review,
        "sinks": [asdict(sink) for sink in report.sinks],
        "channels": [asdict(channel) for channel in report.channels],
    }


def _concurrency(slot: "SlotRow | None") -> dict[str, Any] | None:
    """How many calls may be open at the deep slot; None if this ledger has no deep slot."""
    from dagster_offload.cli.slot_text import found_concurrency

    if slot is None:
        return None
    return {
        "concurrency": slot.concurrency,
        "permits": slot.permits,
        "prompt_cache_size": slot.prompt_cache_size,
        "is_auto": slot.is_auto,
        "found": found_concurrency(slot),
    }


def _pipeline(report: Report) -> dict[str, Any] | None:
    """The pipeline of the running `up`; None if no `up` runs."""
    running = report.pipeline
    if running is None:
        return None
    return {"file": running.file, "edit_not_in_force": running.problem, "differs_here": report.difference}
