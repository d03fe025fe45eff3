"""Turns a deferral into a wait of the step (StageDeferred -> RetryRequested), and records a waiting run that is done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from dagster_offload.defs.events import EventReporter
from dagster_offload.errors import StageDeferred
from dagster_offload.ledger.partitions.reports import report_under_run
from dagster_offload.ledger.work import waiting_runs

# With Dagster's default of 1, a second deferral would fail the step. Deferrals must never fail a step.
MAX_RETRIES = 10_000
# After this many waits, a run waits at least half an hour, even if the slot names a shorter time.
WAITS_UNTIL_PATIENT = 10
PATIENT_SECONDS = 30 * 60


def retry_requested(deferred: StageDeferred, retry_number: int) -> dg.RetryRequested:
    """The wait for a deferral: the time the slot named, or 30 minutes. `retry_number` counts waits from 0."""
    seconds = round(deferred.retry_after_minutes * 60, 3)
    if retry_number + 1 >= WAITS_UNTIL_PATIENT:
        seconds = max(seconds, PATIENT_SECONDS)
    return dg.RetryRequested(max_retries=_one_more(retry_number), seconds_to_wait=seconds)


@contextmanager
def deferrals_as_waits(retry_number: int, *, has_own_process: bool = False) -> Iterator[None]:
    """Turn a `StageDeferred` of the block into a `RetryRequested`. `has_own_process`: the process ends with the step."""
    try:
        yield
    except StageDeferred as deferred:
        _hide_stack_traces(has_own_process)
        # The step's log contains the reason. Dagster would show an exception's cause as the stack trace of a failure.
        raise retry_requested(deferred, retry_number) from None
    except dg.RetryRequested as wait:
        wait.max_retries = _one_more(retry_number)
        _hide_stack_traces(has_own_process)
        raise


def _one_more(retry_number: int) -> int:
    """A limit that is not reached: waits that a slot ends early can be thousands within days."""
    return max(MAX_RETRIES, retry_number + 1)


def _hide_stack_traces(has_own_process: bool) -> None:
    """Dagster shows a stack trace with every retry, but a wait is not a failure. There is no other way to hide it."""
    if has_own_process:
        sys.tracebacklimit = 0


def retry_after(seconds: float) -> dg.RetryRequested:
    """A wait without a slot fault: another worker holds the document, or the document is in its back-off."""
    return dg.RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=round(seconds, 3))


def record_if_done(reporter: EventReporter, run_id: str) -> bool:
    """Record the documents of a waiting run under it if other workers have finished all of them. Returns whether they had.

    For a run that cannot continue. A backfill counts only what its own runs recorded.
    """
    waiting = reporter.ledger.run(waiting_runs.find, run_id)
    if waiting is None or not waiting.is_done:
        return False
    documents, stages = reporter.ledger.run(waiting_runs.documents_of, run_id)
    reporter.ledger.run(report_under_run, run_id, documents, stages)
    reporter.report_all()
    return True
