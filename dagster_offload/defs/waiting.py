"""A deferral becomes a wait of the step: StageDeferred -> RetryRequested. And what a run that only waited ends as."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dagster_offload.defs.events import EventReporter
from dagster_offload.errors import StageDeferred
from dagster_offload.ledger.work import outbox, waiting_runs

# Dagster's default is 1: a second deferral would fail the step. No number of deferrals fails one.
MAX_RETRIES = 10_000
# A run that has waited this often is in no hurry: whatever the slot says, it sleeps at least half an hour.
WAITS_UNTIL_PATIENT = 10
PATIENT_SECONDS = 30 * 60


def retry_requested(deferred: StageDeferred, retry_number: int) -> dg.RetryRequested:
    """The wait a deferral asks for: what the slot said, else 30 minutes. `retry_number` counts waits from 0."""
    seconds = round(deferred.retry_after_minutes * 60, 3)
    if retry_number + 1 >= WAITS_UNTIL_PATIENT:
        seconds = max(seconds, PATIENT_SECONDS)
    return dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=seconds)


@contextmanager
def deferrals_as_waits(retry_number: int, *, has_own_process: bool = False) -> Iterator[None]:
    """`has_own_process`: the step runs in a process that ends with it."""
    try:
        yield
    except StageDeferred as deferred:
        _hide_stack_traces(has_own_process)
        # The step's log says why it waits. Dagster would show a cause as the stack trace of a failure.
        raise retry_requested(deferred, retry_number) from None
    except dg.RetryRequested:
        _hide_stack_traces(has_own_process)
        raise


def _hide_stack_traces(has_own_process: bool) -> None:
    """Dagster shows a stack trace beside every retry, and a wait is no failure. It has no other way to leave it out."""
    if has_own_process:
        sys.tracebacklimit = 0


def look_again(seconds: float) -> dg.RetryRequested:
    """The wait for what no slot is guilty of: held by another worker, or in its back-off after a fault of its own."""
    return dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=round(seconds, 3))


def record_if_done(reporter: EventReporter, run_id: str) -> bool:
    """Whether other workers have finished all that a waiting run waits for; then it is recorded under the run.

    For a run that cannot go on itself. A backfill counts only what its own runs recorded.
    """
    waiting = reporter.ledger.run(waiting_runs.find, run_id)
    if waiting is None or not waiting.is_done:
        return False
    documents, stages = reporter.ledger.run(waiting_runs.documents_of, run_id)
    reporter.ledger.run(outbox.report_under_run, run_id, documents, stages)
    reporter.report_all()
    return True
