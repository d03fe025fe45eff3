"""Prepares Dagster's instance and ends the runs whose process has died. `up` runs it before it starts the daemon.

It is a separate process because it uses Dagster: a copy of the code server (`prefork.py`), or Python as usual without one. It
prints the folder for DAGSTER_HOME as soon as the folder is ready, then one line for each run that it put back into the queue or
ended, and for each sensor that would have waited until the clock passes its last tick.
"""

import sys

from dagster_offload.defs.dead_runs import requeue, sweep
from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.future_ticks import forget_future_ticks
from dagster_offload.defs.instance import open_instance, prepare_instance
from dagster_offload.defs.names import names_of
from dagster_offload.errors import OffloadError
from dagster_offload.ledger.core.opening import open_ledger, open_ledger_as_it_is
from dagster_offload.settings import load_settings
from dagster_offload.stages.catalog import stage_graph


def sweep_again() -> None:
    """Sweep beside a running `up`, which is not to prepare anything. Ends in `SystemExit` with the reason if it cannot."""
    try:
        settings = load_settings()
        with open_ledger_as_it_is(settings) as ledger, open_instance(settings) as instance:
            reporter = EventReporter(instance, ledger, names_of(stage_graph(settings)), settings)
            _sweep(reporter, beside_up=True)
    except OffloadError as error:
        sys.exit(str(error))


def main() -> None:
    """Prepare the instance, then sweep. Ends in `SystemExit` with the reason if it cannot."""
    try:
        _prepare()
    except OffloadError as error:
        sys.exit(str(error))


def _prepare() -> None:
    settings = load_settings()
    with open_ledger(settings) as ledger:
        print(prepare_instance(settings, ledger.conninfo), flush=True)
        with open_instance(settings) as instance:
            reporter = EventReporter(instance, ledger, names_of(stage_graph(settings)), settings)
            for line in requeue(reporter):
                print(line)
            _sweep(reporter, beside_up=False)


def _sweep(reporter: EventReporter, *, beside_up: bool) -> None:
    for line in sweep(reporter, beside_up=beside_up):
        print(f"Ended a dead run: {line}")
    for line in forget_future_ticks(reporter.instance):
        print(line)
