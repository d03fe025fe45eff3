"""The executor of our asset runs: Dagster's multiprocess executor, with a wait that costs nothing and ends in time.

Dagster's own executor uses a whole core while a step waits to be retried, and waits all of the seconds the step asked
for. Here Dagster runs the step once and leaves the retry to us. Between two attempts the run's process sleeps on the
ledger's notifications (`engine/waiting.py`). Why it is built this way: docs/decisions/0009-waiting-runs.md.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

# All that this executor takes from inside Dagster, beside the attributes it reads from what it is given. The contract
# test is tests/dagster/test_waiting_executor.py.
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._utils.interrupts import check_captured_interrupt

from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.names import WAITING_EXECUTOR
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.defs.waiting import record_if_done
from dagster_offload.engine.waiting import WaitEnd, wait_for_work
from dagster_offload.errors import OffloadError
from dagster_offload.stages.catalog import recipes

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan

STOPPED_WAITING = (
    "Cancelled while it waited, because dagster-offload was stopped. Its documents stay due: they are taken up again "
    "after the next start."
)
STOPPED_WORKING = (
    "Cancelled because dagster-offload was stopped. What was finished is kept; the rest is taken up again after the next "
    "start."
)
CANCELLED_WAITING = "Cancelled while it waited. Its documents stay due: a drain or another run takes them up."


def build_waiting_executor(deep_slot: DeepSlot, asset_keys: Mapping[str, dg.AssetKey]) -> dg.ExecutorDefinition:
    """An executor for jobs over our assets. It starts one process at a time."""

    @dg.executor(name=WAITING_EXECUTOR, requirements=dg.multiple_process_executor_requirements())
    def waiting_multiprocess(_context: dg.InitExecutorContext) -> WaitingExecutor:
        return WaitingExecutor(deep_slot, asset_keys)

    return waiting_multiprocess


@dataclass(frozen=True)
class WaitingExecutor(dg.Executor):
    """Runs a step in a process of its own, and sleeps between its attempts until there is a reason to go on.

    A run of several steps gets Dagster's executor as it is: one step may wait while another works, and only Dagster
    knows which steps are ready.
    """

    deep_slot: DeepSlot
    asset_keys: Mapping[str, dg.AssetKey]

    @property
    def retries(self) -> RetryMode:
        return RetryMode.ENABLED

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
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
        """Sleep between two attempts; False where another worker finished everything and the run is over.

        Raises `DagsterExecutionInterruptedError` for a run that was cancelled or stopped and has said so.
        """
        run_id = plan_context.run_id
        plan_context.log.info(
            "Waiting: the run goes on as soon as the slot answers or another worker has finished its documents, "
            f"at the latest in {seconds:.0f} s."
        )
        end = wait_for_work(self.deep_slot.unmigrated_ledger, run_id, seconds, check_captured_interrupt)
        if end is not WaitEnd.STOPPED:
            plan_context.log.info(f"Going on: {end}.")
            return True
        if self._is_recorded_as_done(plan_context):
            return False
        _report_cancelled(plan_context, STOPPED_WAITING, CANCELLED_WAITING)
        raise dg.DagsterExecutionInterruptedError

    def _is_recorded_as_done(self, plan_context: "PlanOrchestrationContext") -> bool:
        """Whether the documents are done after all; then they are recorded under this run, so that it may succeed."""
        try:
            settings = self.deep_slot.settings()
            with self.deep_slot.unmigrated_ledger() as ledger:
                reporter = EventReporter(
                    plan_context.instance, ledger, self.asset_keys, recipes(settings), settings.library
                )
                return record_if_done(reporter, plan_context.run_id)
        except OffloadError as error:
            plan_context.log.warning(f"The ledger does not say whether the documents are done: {error}")
            return False


def _attempt(
    plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
) -> Generator[dg.DagsterEvent, None, dg.DagsterEvent | None]:
    """Run the step once. Returns the event by which it asked for a retry, or None."""
    # DEFERRED: Dagster reports a retry and leaves it to the caller. Its executor then ends instead of spinning.
    retry = None
    for event in MultiprocessExecutor(RetryMode.DEFERRED, max_concurrent=1).execute(plan_context, execution_plan):
        if event.is_step_up_for_retry:
            retry = event
        yield event
    return retry


def _after_attempt(execution_plan: "ExecutionPlan", step_key: str) -> "ExecutionPlan":
    """The plan as Dagster needs it for the next attempt: it counts the attempts in it, as `context.retry_number`."""
    known = execution_plan.known_state
    attempts = dict(known.previous_retry_attempts)
    attempts[step_key] = attempts.get(step_key, 0) + 1
    return execution_plan._replace(known_state=known._replace(previous_retry_attempts=attempts))


def _report_cancelled(plan_context: "PlanOrchestrationContext", stopped: str, cancelled: str | None = None) -> None:
    """Report the run as cancelled, in the words for a stop of dagster-offload or for a cancel by a person.

    Left to itself, Dagster calls a stop nobody asked it for a failure, and shows a stack trace for either.
    """
    run = plan_context.instance.get_run_by_id(plan_context.run_id)
    if run is None or run.is_finished:
        return
    words = cancelled if run.status is dg.DagsterRunStatus.CANCELING else stopped
    if words is not None:
        plan_context.instance.report_run_canceled(run, words)
