"""The job `extract`: its steps share the backlog and report each text once, refuse a host that is unfit, and can be cancelled."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from dagster_offload.defs import extract
from dagster_offload.defs.execution.celery import build_celery_executor
from dagster_offload.defs.names import TERMS_TAG
from dagster_offload.engine.extraction.host import Terms
from dagster_offload.engine.scan import scan
from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core import pipelines
from dagster_offload.ledger.core.migrate import current_step, newest_step
from dagster_offload.ledger.core.workers import UP, Worker
from dagster_offload.ledger.work import left
from dagster_offload.settings import load_settings
from dagster_offload.stages.graph import EXTRACT
from dagster_offload.stages.pipeline import pipeline_of
from tests.support.edge import Edge
from tests.support.patience import PATIENCE_SECONDS

LETTERS = {f"letter{number}": f"Letter {number} about the lease." for number in range(12)}


def begin(edge: Edge, steps: int = 3) -> dg.ExecuteInProcessResult:
    job = edge.defs.resolve_job_def("extract")
    config = {"ops": {"begin_extraction": {"config": {"steps": steps}}}}
    return job.execute_in_process(instance=edge.instance, run_config=config, raise_on_error=False)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    error: Any = event.step_failure_data.user_failure_data
    return str(error.description)


@pytest.fixture
def edge(edge: Edge) -> Edge:
    """An edge with documents that are known and not read."""
    edge.write(**LETTERS)
    scan(edge.settings, edge.ledger)
    return edge


def test_each_document_is_done_and_reported_once_by_the_steps_together(edge: Edge) -> None:
    result = begin(edge)
    assert result.success
    names = {event.step_key for event in result.all_events if event.is_step_success}
    assert names == {"begin_extraction", *(f"extract_texts[{n}]" for n in (1, 2, 3)), "end_extraction"}
    assert edge.partitions_done(EXTRACT) == {f"{name}.txt" for name in LETTERS}
    assert len(edge.materializations(EXTRACT)) == len(LETTERS)
    (ended,) = [
        event for event in result.all_events if event.is_successful_output and event.step_key == "end_extraction"
    ]
    metadata = ended.step_output_data.metadata
    assert (metadata["done"].value, metadata["still due"].value) == (len(LETTERS), 0)


def test_nothing_to_extract_is_a_success(edge: Edge) -> None:
    assert begin(edge).success
    assert begin(edge, steps=1).success
    assert len(edge.materializations(EXTRACT)) == len(LETTERS)


def test_without_a_number_there_is_one_step_because_two_would_share_a_host(edge: Edge) -> None:
    result = edge.defs.resolve_job_def("extract").execute_in_process(instance=edge.instance)
    steps = [event.step_key for event in result.all_events if event.is_step_success]
    assert steps == ["begin_extraction", "extract_texts[1]", "end_extraction"]
    assert edge.partitions_done(EXTRACT) == {f"{name}.txt" for name in LETTERS}


def test_a_number_of_steps_below_one_is_refused(edge: Edge) -> None:
    assert failure(begin(edge, steps=0)) == "steps is 0: it must be 1 or more"


def test_a_step_on_a_host_of_another_ledger_takes_nothing(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Terms("another", "0.2.0", "")
    monkeypatch.setattr(extract, "_terms_of_run", lambda _: other)
    assert "this host works on another ledger than the run" in failure(begin(edge, steps=1))
    assert edge.partitions_done(EXTRACT) == set()


def test_a_step_without_the_first_one_is_refused(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "TERMS_TAG", f"{TERMS_TAG}/of/another/version")
    monkeypatch.setattr(dg.DagsterInstance, "add_run_tags", lambda *_: None)
    assert "launch the whole job" in failure(begin(edge, steps=1))


def test_a_step_that_cannot_see_the_library_takes_nothing(edge: Edge) -> None:
    library = edge.settings.library
    assert library is not None
    library.rename(library.with_name("elsewhere"))
    assert f"this host takes no documents: cannot read the library {library}" in failure(begin(edge, steps=1))
    assert edge.partitions_done(EXTRACT) == set()


@pytest.mark.rule("hosts-5")
def test_the_first_step_on_a_worker_of_another_version_migrates_and_begins_nothing(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "runs_on_this_host", lambda _: False)
    with edge.ledger.transaction() as cur:
        cur.execute("delete from migrations where number = %s", [newest_step()])
    assert "this host begins no extraction: the ledger is older than this host" in failure(begin(edge))
    with edge.ledger.transaction() as cur:
        assert (current_step(cur, edge.ledger.schema) or 0) < newest_step()
    assert edge.partitions_done(EXTRACT) == set()


@pytest.mark.rule("hosts-5")
def test_the_first_step_on_a_worker_of_another_version_than_up_begins_nothing(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "runs_on_this_host", lambda _: False)
    theirs = replace(pipeline_of(edge.settings), version="0.1.0")
    with Worker(edge.ledger, UP) as up:
        edge.ledger.run(pipelines.announce, up.id, theirs, None)
        assert "this host begins no extraction: `up` on " in failure(begin(edge))
    assert edge.partitions_done(EXTRACT) == set()


@pytest.mark.rule("hosts-4")
def test_a_cancel_ends_a_step_that_runs_on_another_host(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagster_offload.engine.extraction.run.WATCH_SECONDS", 0.0)
    reached, cancelled = threading.Event(), threading.Event()
    stop_if_ended = extract._stop_if_ended

    def look_after_the_cancel(context: dg.OpExecutionContext) -> None:
        reached.set()
        assert cancelled.wait(PATIENCE_SECONDS)
        stop_if_ended(context)

    monkeypatch.setattr(extract, "_stop_if_ended", look_after_the_cancel)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(begin, edge, 1)
        assert reached.wait(PATIENCE_SECONDS)
        (run,) = edge.instance.get_runs(dg.RunsFilter(job_name="extract"))
        edge.instance.report_run_canceling(run)
        cancelled.set()
        assert not running.result(PATIENCE_SECONDS).success
    assert edge.ledger.run(left.count_claimed_elsewhere, [EXTRACT], 0) == 0


def test_the_embedded_postgres_cannot_be_shared_so_a_run_over_celery_fails_with_the_reason() -> None:
    settings = load_settings(home="/nonexistent", celery_broker="redis://127.0.0.1:1/0")
    executor = build_celery_executor(settings)
    with pytest.raises(SettingsError, match="the embedded Postgres serves one host only: set OFFLOAD_POSTGRES_URL"):
        executor.executor_creation_fn(None)  # type: ignore[misc, arg-type]
