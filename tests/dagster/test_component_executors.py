"""Runs of a component's assets with the executors of a project: they work, wait for the slot, and fail by name."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import execute_run

from dagster_offload.ledger.core.database import Cursor, Ledger, fetch_one
from dagster_offload.ledger.slots import slots
from tests.support.acceptance import wait_for
from tests.support.forked_commands import forked_steps
from tests.support.project import Project

EXECUTORS = pytest.mark.parametrize("job", ["summaries_in_own_process", "summaries_in_process", "summaries_by_default"])


def function(name: str) -> Callable[[], dg.JobDefinition]:
    """A function of the stranger's module, which builds a job."""
    found: Callable[[], dg.JobDefinition] = getattr(import_module("stranger.definitions"), name)
    return found


def run(project: Project, job: str, beside: Callable[[], Any]) -> dg.DagsterRun:
    """Run the job over lease.txt, and `beside` in another thread. Returns the run as it ended."""
    build = function(job)
    created = project.instance.create_run_for_job(build(), tags={"dagster/partition": "lease.txt"})
    with forked_steps(), ThreadPoolExecutor(1) as pool:
        acting = pool.submit(beside)
        execute_run(dg.reconstructable(build), created, project.instance)
        acting.result()
    ended = project.instance.get_run_by_id(created.run_id)
    assert ended is not None
    return ended


@pytest.mark.slow
@EXECUTORS
def test_a_run_waits_for_the_slot_and_ends_as_a_success(project: Project, database: str, job: str) -> None:
    project.add("papers", "lease", extra="  retry_after_minutes: 0.02\n")
    project.run("papers_scan")
    project.router.set(mode="cold")

    def wake() -> None:
        with Ledger(database, "offload_papers") as ledger:
            wait_for(lambda: ledger.run(_count_waiting) == 1, "the run that waits")
            project.router.set(mode="awake")
            ledger.run(slots.try_again, "deep", "the test woke it")

    ended = run(project, job, wake)
    assert ended.status is dg.DagsterRunStatus.SUCCESS
    assert project.instance.get_materialized_partitions(dg.AssetKey(["papers", "summary"])) == {"lease.txt"}
    events = [
        record.event_log_entry.dagster_event for record in project.instance.get_records_for_run(ended.run_id).records
    ]
    waits = [event for event in events if event is not None and event.is_step_up_for_retry]
    assert waits
    assert all(has_stack_trace(wait) == (job == "summaries_in_process") for wait in waits)


def has_stack_trace(wait: dg.DagsterEvent) -> bool:
    return bool(wait.step_retry_data.error.stack)


def _count_waiting(cur: Cursor) -> int:
    return int(fetch_one(cur, "select count(*) as n from waiting_runs")["n"])
