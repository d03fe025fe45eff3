"""The waiting executor with real processes, forked as `up` forks them: a waiting run continues and succeeds, or is cancelled."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run
from dagster._utils.interrupts import capture_interrupts, check_captured_interrupt

from dagster_offload.definitions import build_definitions
from dagster_offload.defs.execution import waiting_executor
from dagster_offload.defs.execution.waiting_executor import build_waiting_executor
from dagster_offload.defs.names import WAITING_EXECUTOR, names_of
from dagster_offload.defs.resources import DeepSlot
from dagster_offload.defs.runs import RanOn
from dagster_offload.engine import waiting
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA
from dagster_offload.ledger.slots import rests
from dagster_offload.ledger.work import waiting_runs
from dagster_offload.settings import load_settings
from dagster_offload.slot.config import DEEP
from dagster_offload.stages.graph import BUILT_IN
from tests.support.edge import Edge
from tests.support.forked_commands import forked_steps
from tests.support.patience import PATIENCE_SECONDS
from tests.support.stages import DRAIN_STAGES

JOB = "documents_job"
Act = Callable[[], object]


def our_job() -> dg.JobDefinition:
    """The job, built again in each process of a run from the settings in the environment."""
    return _job(build_definitions())


def job_with_dagsters_executor() -> dg.JobDefinition:
    """The assets in a project with another executor."""
    return _job(build_definitions(), dg.multiprocess_executor.configured({"max_concurrent": 1}))


def _job(definitions: dg.Definitions, executor: dg.ExecutorDefinition | None = None) -> dg.JobDefinition:
    selection = dg.AssetSelection.assets(*(names_of(BUILT_IN).keys[stage] for stage in DRAIN_STAGES))
    job = dg.define_asset_job(JOB, selection, executor_def=executor)
    return dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def(JOB)


class Runs:
    """A run of one document in real processes. The test's process is the process of the run."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.run_id = ""
        self._waits = threading.Semaphore(0)
        self.said = ""  # as the last wait began

    def run(self, beside: Act, job: Callable[[], dg.JobDefinition] = our_job) -> dg.DagsterRunStatus:
        """Execute a run over a.txt, and `beside` in another thread. Returns the final status."""
        instance = self.edge.instance
        run = instance.create_run_for_job(job(), tags={"dagster/partition": "a.txt"})
        self.run_id = run.run_id
        instance.add_event_listener(run.run_id, self._on_event)
        with ThreadPoolExecutor(1) as pool:
            acting = pool.submit(beside)
            execute_run(dg.reconstructable(job), run, instance)
            acting.result()
        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        return ended.status

    def _on_event(self, entry: dg.EventLogEntry) -> None:
        if entry.user_message.startswith("Waiting:"):
            self.said = entry.user_message
            self._waits.release()

    def await_wait(self) -> None:
        """Block until the run begins a wait."""
        assert self._waits.acquire(timeout=PATIENCE_SECONDS), "the run did not wait"

    def wake(self) -> None:
        """Close the breaker of the slot during the run's next wait."""
        self.await_wait()
        self.close_breaker()

    def close_breaker(self) -> None:
        self.edge.router.set(mode="awake")
        with self.edge.ledger.transaction() as cur:
            cur.execute("update slots set breaker = 'closed', epoch = epoch + 1, reason = null, retry_at = null")
            cur.execute("select pg_notify(%s, 'breaker:deep')", [self.edge.ledger.channel])

    def is_waiting(self) -> bool:
        with self.edge.ledger.transaction() as cur:
            return cur.execute("select 1 from waiting_runs").fetchone() is not None

    def forget_slot(self) -> None:
        """Let the run wait only for its documents, not for the slot."""
        with self.edge.ledger.transaction() as cur:
            cur.execute("update waiting_runs set slot = null")

    @property
    def events(self) -> list[dg.DagsterEvent]:
        records = self.edge.instance.get_records_for_run(self.run_id).records
        return [event for record in records if (event := record.event_log_entry.dagster_event) is not None]

    @property
    def messages(self) -> list[str]:
        records = self.edge.instance.get_records_for_run(self.run_id).records
        return [record.event_log_entry.user_message or record.event_log_entry.message for record in records]

    def waits(self) -> list[Any]:
        return [event.step_retry_data.seconds_to_wait for event in self.events if event.is_step_up_for_retry]

    def stack_traces(self) -> list[str]:
        event_types = []
        for event in self.events:
            error = getattr(event.event_specific_data, "error", None)
            if error is not None and (error.stack or error.cause):
                event_types.append(event.event_type_value)
        return event_types


@pytest.fixture
def runs(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """One scanned document, and an unavailable slot."""
    settings = edge.settings
    assert settings.postgres_url is not None
    monkeypatch.setenv("OFFLOAD_HOME", str(settings.home))
    monkeypatch.setenv("OFFLOAD_LIBRARY", str(settings.library))
    monkeypatch.setenv("OFFLOAD_POSTGRES_URL", settings.postgres_url.get_secret_value())
    monkeypatch.setenv("OFFLOAD_DEEP_URL", edge.router.url)
    monkeypatch.setenv("OFFLOAD_DEEP_MODEL", "qwen-macbook")
    edge.write(a="Invoice for 3 chairs. Total 300 EUR.")
    edge.scan()
    edge.router.set(mode="cold")
    with forked_steps():
        yield Runs(edge)


@pytest.mark.rule("drain-7")
def test_a_waiting_run_continues_when_the_slot_answers_and_succeeds(runs: Runs) -> None:
    assert runs.run(runs.wake) is dg.DagsterRunStatus.SUCCESS
    assert runs.waits() == [1800.0]
    assert "when drain_sensor finds that the slot answers (while it is on)" in runs.said
    assert "Continuing: the slot answers again." in runs.messages
    assert {record.run_id for record in runs.edge.materializations("summarize", "a.txt")} == {runs.run_id}
    assert runs.stack_traces() == []
    assert runs.edge.ledger.run(waiting_runs.find, runs.run_id) is None
    run = runs.edge.instance.get_run_by_id(runs.run_id)
    assert run is not None
    ran_on = RanOn.of(run.tags)
    assert ran_on is not None
    assert ran_on.pid == os.getpid(), "the tag must name the process that stays alive while the step waits"


@pytest.mark.rule("rest-6")
def test_a_run_at_a_paused_slot_waits_and_continues_when_a_person_resumes_it(runs: Runs) -> None:
    runs.edge.router.set(mode="awake")
    runs.edge.ledger.run(rests.pause, DEEP, None)

    def resume() -> None:
        runs.await_wait()
        assert runs.edge.router.completions() == []
        runs.edge.ledger.run(rests.resume, DEEP)

    assert runs.run(resume) is dg.DagsterRunStatus.SUCCESS
    assert runs.waits() == [1800.0]
    assert any("waiting: deep is resting: paused since" in message for message in runs.messages)
    assert "Continuing: the slot may be used again." in runs.messages
    assert {record.run_id for record in runs.edge.materializations("summarize", "a.txt")} == {runs.run_id}


@pytest.mark.rule("drain-7")
def test_a_waiting_run_continues_when_a_drain_has_finished_its_documents(runs: Runs) -> None:
    def drain() -> None:
        runs.await_wait()
        runs.forget_slot()
        runs.close_breaker()
        runs.edge.run_job("drain")

    assert runs.run(drain) is dg.DagsterRunStatus.SUCCESS
    assert runs.waits() == [1800.0]
    assert "Continuing: another worker has finished its documents." in runs.messages
    assert runs.run_id in {record.run_id for record in runs.edge.materializations("summarize", "a.txt")}
    with runs.edge.ledger.transaction() as cur:
        [calls] = cur.execute("select count(*) as n from calls where item_id is not null and outcome = 'ok'").fetchall()
    assert calls["n"] == len(DRAIN_STAGES)


def test_a_cancelled_waiting_run_shows_a_message_and_no_stack_trace(runs: Runs) -> None:
    def cancel() -> None:  # as Dagster does when a person terminates the run
        runs.await_wait()
        run = runs.edge.instance.get_run_by_id(runs.run_id)
        assert run is not None
        runs.edge.instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)

    assert runs.run(cancel) is dg.DagsterRunStatus.CANCELED
    assert waiting_executor.CANCELLED_WAITING in runs.messages
    assert runs.stack_traces() == []


@pytest.mark.rule("drain-8")
def test_a_stopped_waiting_run_is_cancelled_with_a_message_and_its_document_stays_due(runs: Runs) -> None:
    def stop() -> None:
        runs.await_wait()
        os.kill(os.getpid(), signal.SIGTERM)

    assert runs.run(stop) is dg.DagsterRunStatus.CANCELED
    assert waiting_executor.STOPPED_WAITING in runs.messages
    assert runs.stack_traces() == []
    runs.close_breaker()
    assert runs.edge.run_job("drain").output_for_node("drain_backlog").done == 1


def test_a_stopped_waiting_run_whose_documents_are_done_succeeds(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish_and_stop() -> None:
        runs.await_wait()
        runs.forget_slot()
        runs.close_breaker()
        runs.edge.run_job("drain")
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(waiting, "CHECK_EVERY_SECONDS", 3600.0)
    monkeypatch.setattr(waiting, "_is_notified", lambda _connection: False)  # misses every notification
    assert runs.run(finish_and_stop) is dg.DagsterRunStatus.SUCCESS
    assert runs.run_id in {record.run_id for record in runs.edge.materializations("summarize", "a.txt")}


def test_a_run_also_waits_and_succeeds_with_dagsters_executor(runs: Runs) -> None:
    runs.edge.router.set(retry_after="5")

    def wake() -> None:
        while not runs.is_waiting():
            time.sleep(0.05)
        runs.close_breaker()

    assert runs.run(wake, job=job_with_dagsters_executor) is dg.DagsterRunStatus.SUCCESS
    assert set(runs.waits()) == {5.0}


# The contract: what the executor requires of Dagster's internals. A failure here means that Dagster has changed.


@dg.op
def retries_twice(context: dg.OpExecutionContext) -> int:
    if context.retry_number < 2:
        raise dg.RetryRequested(max_retries=2, seconds_to_wait=0.01)
    return context.retry_number


def job_that_retries_twice() -> dg.JobDefinition:
    executor = build_waiting_executor(DeepSlot(load_settings, DEFAULT_SCHEMA), names_of(BUILT_IN))

    @dg.job(executor_def=executor)
    def retrying() -> None:
        retries_twice()

    return retrying


def test_dagster_leaves_a_deferred_retry_to_the_caller_and_uses_its_count_of_attempts(runs: Runs) -> None:
    with dg.execute_job(dg.reconstructable(job_that_retries_twice), runs.edge.instance) as result:
        assert result.success
        assert result.output_for_node("retries_twice") == 2
        starts = [event for event in result.all_events if event.event_type_value == "STEP_START"]
        retries = [event for event in result.all_events if event.is_step_up_for_retry]
    assert (len(starts), len(retries)) == (1, 2)


@dg.op
def adds_one(number: int) -> int:
    return number + 1


def job_of_two_steps() -> dg.JobDefinition:
    executor = build_waiting_executor(DeepSlot(load_settings, DEFAULT_SCHEMA), names_of(BUILT_IN))

    @dg.job(executor_def=executor)
    def two_steps() -> None:
        adds_one(retries_twice())

    return two_steps


def test_a_run_of_several_steps_uses_dagsters_executor(runs: Runs) -> None:
    with dg.execute_job(dg.reconstructable(job_of_two_steps), runs.edge.instance) as result:
        assert result.success
        assert result.output_for_node("adds_one") == 3
    assert not [event for event in result.all_events if (event.message or "").startswith("Waiting:")]


def test_dagster_keeps_a_captured_interrupt_until_it_is_checked() -> None:
    with capture_interrupts():
        assert not check_captured_interrupt()
        os.kill(os.getpid(), signal.SIGTERM)
        assert check_captured_interrupt()


def test_the_assets_use_the_waiting_executor_by_default() -> None:
    assert our_job().executor_def.name == WAITING_EXECUTOR
