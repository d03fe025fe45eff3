"""The executor of asset runs: Dagster's multiprocess executor, with a wait that uses no processor time and ends early.

While a step waits for its retry, Dagster's executor uses a whole core, and it always waits the full time that the step
requested. Here Dagster runs the step once and this executor handles the retry. Between two attempts the run's process
sleeps until the ledger notifies it (`engine/waiting.py`). Why it is built this way: docs/decisions/0009-waiting-runs.md.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

# The only internal imports of this executor. It also reads attributes of Dagster's objects. The contract test is
# tests/dagster/test_waiting_executor.py.
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._utils.interrupts import check_captured_interrupt

from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.execution.waiting import record_if_done
from dagster_offload.defs.names import WAITING_EXECUTOR, Names
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.engine.waiting import WaitEnd, wait_for_work
from dagster_offload.errors import OffloadError

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

STOPPED_WAITING = (
    "Cancelled while it waited, because dagster-offload was stopped. Its documents are still due and will be processed "
    "after the next start."
)
STOPPED_WORKING = (
    "Cancelled because dagster-offload was stopped. Finished work is kept; the rest will be processed after the next "
    "start."
)
CANCELLED_WAITING = "Cancelled while it waited. Its documents are still due: a drain or another run will process them."


def build_waiting_executor(deep_slot: DeepSlot, names: Names) -> dg.ExecutorDefinition:
    """An executor for jobs on the assets of this project. It starts one process at a time."""

    @dg.executor(name=WAITING_EXECUTOR, requirements=dg.multiple_process_executor_requirements())
    def waiting_multiprocess(_context: dg.InitExecutorContext) -> WaitingExecutor:
        return WaitingExecutor(deep_slot, names)

    return waiting_multiprocess


@dataclass(frozen=True)
class WaitingExecutor(dg.Executor):
    """Runs a step in a separate process, and sleeps between its attempts until the step can continue.

    A run of several steps uses Dagster's executor unchanged: one step may wait while another works, and only Dagster
    knows which steps are ready.
    """

    deep_slot: DeepSlot
    names: Names

    @property
    def retries(self) -> RetryMode:
        """Retries are enabled: a deferral is a retry."""
        return RetryMode.ENABLED

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Execute the plan and yield its events. Raises `DagsterExecutionInterruptedError` after a cancel or a stop."""
        if len(execution_plan.step_keys_to_execute) != 1:
            yield from MultiprocessExecutor(RetryMode.ENABLED, max_concurrent=1).execute(plan_context, execution_plan)
            return
        [step_key] = execution_plan.step_keys_to_execute
        try:
            while (retry := (yield from _attempt(plan_context, execution_plan))) is not None:
                if not self._wait(plan_context, retry.step_retry_data.seconds_to_wait or 0.0):
                    return
                execution_plan = _after_attempt(execution_plan, step_key)
        except dg.DagsterExecutionInterruptedError:
            _report_cancelled(plan_context, STOPPED_WORKING)
            raise

    def _wait(self, plan_context: "PlanOrchestrationContext", seconds: float) -> bool:
        """Sleep between two attempts. Returns False if the run was stopped and other workers finished its documents.

        Otherwise, a cancel or a stop is reported and raises `DagsterExecutionInterruptedError`.
        """
        run_id = plan_context.run_id
        plan_context.log.info(
            f"Waiting: the run continues when {self.names.drain_sensor} finds that the slot answers (while it is on) or "
            f"another worker has finished its documents, after at most {seconds:.0f} s."
        )
        end = wait_for_work(self.deep_slot.unmigrated_ledger, run_id, seconds, check_captured_interrupt)
        if end is not WaitEnd.STOPPED:
            plan_context.log.info(f"Continuing: {end}.")
            return True
        if self._is_recorded_as_done(plan_context):
            return False
        _report_cancelled(plan_context, STOPPED_WAITING, CANCELLED_WAITING)
        raise dg.DagsterExecutionInterruptedError

    def _is_recorded_as_done(self, plan_context: "PlanOrchestrationContext") -> bool:
        """Whether the documents are done. If so, they are recorded under this run, and it can succeed."""
        try:
            settings = self.deep_slot.settings()
            with self.deep_slot.unmigrated_ledger() as ledger:
                reporter = EventReporter(plan_context.instance, ledger, self.names, settings)
                return record_if_done(reporter, plan_context.run_id)
        except OffloadError as error:
            plan_context.log.warning(f"Cannot find out whether the documents are done: {error}")
            return False


def _attempt(
    plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
) -> Generator[dg.DagsterEvent, None, dg.DagsterEvent | None]:
    """Run the step once. Returns its event that requests a retry, or None."""
    # DEFERRED: Dagster reports the retry and leaves it to the caller. Its executor then ends instead of spinning.
    retry = None
    for event in MultiprocessExecutor(RetryMode.DEFERRED, max_concurrent=1).execute(plan_context, execution_plan):
        if event.is_step_up_for_retry:
            retry = event
        yield event
    return retry


def _after_attempt(execution_plan: "ExecutionPlan", step_key: str) -> "ExecutionPlan":
    """The plan for the next attempt. It carries the number of attempts, which becomes `context.retry_number`."""
    known = execution_plan.known_state
    attempts = dict(known.previous_retry_attempts)
    attempts[step_key] = attempts.get(step_key, 0) + 1
    return execution_plan._replace(known_state=known._replace(previous_retry_attempts=attempts))


def _report_cancelled(plan_context: "PlanOrchestrationContext", stopped: str, cancelled: str | None = None) -> None:
    """Report the run as cancelled: with `cancelled` if a person cancelled it, with `stopped` otherwise.

    Without this, Dagster reports a stop that it did not request as a failure, and shows a stack trace in both cases.
    """
    run = plan_context.instance.get_run_by_id(plan_context.run_id)
    if run is None or run.is_finished:
        return
    message = cancelled if run.status is dg.DagsterRunStatus.CANCELING else stopped
    if message is not None:
        plan_context.instance.report_run_canceled(run, message)
