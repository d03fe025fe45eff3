"""What our runs say of themselves in their tags: where and in which process they run, why, and who launched them."""

import json
import math
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dagster_offload.defs.names import (
    HOST_TAG,
    LAUNCHED_BY_TAG,
    OLD_RAN_ON_TAG,
    RAN_ON_TAG,
    REPOSITORY_TAG,
    WAITING_EXECUTOR,
    WHY_TAG,
)
from dagster_offload.host.machine import boot_id, host_name, process_start

# Enough for a process to start on a slow machine. The run monitor's limit for a start is the same.
STEPLESS_SECONDS = 180.0
# From a run's start to its worker's first heartbeat.
STEP_SECONDS = 30.0

# Another host may write a time that lies this far in the future.
CLOCKS_DIFFER_SECONDS = 60.0

# A run of these has a process, or is about to get one; a queued run has none.
LAUNCHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class RanOn:
    """Where a run runs. `started` is the start time of the process, as text: a later process with the pid has another."""

    host: str
    boot: str
    pid: int | None = None
    started: str | None = None

    def __str__(self) -> str:
        return json.dumps([self.host, self.pid, self.started, self.boot], ensure_ascii=False)

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "RanOn | None":
        """Read it from the tags of a run; None if the run is not tagged."""
        value = tags.get(RAN_ON_TAG) or tags.get(OLD_RAN_ON_TAG)
        if value is None:
            return None
        host, pid, started, boot = json.loads(value)
        return cls(host, boot, pid, started)


def run_tags(pid: int | None = None) -> dict[str, str]:
    """The tags that show where a run runs: the host for people; boot and, if `pid` is given, process for the sweep."""
    started = None if pid is None else process_start(pid)
    ran_on = RanOn(host_name(), boot_id(), None if started is None else pid, started)
    return {HOST_TAG: host_name(), RAN_ON_TAG: str(ran_on)}


def request_tags(why: str, launched_by: str) -> dict[str, str]:
    """The tags of a run that a sensor launches. `why` and `launched_by` are shown in the list of runs."""
    return {**run_tags(), LAUNCHED_BY_TAG: launched_by, WHY_TAG: why}


def has_own_process(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> bool:
    """Whether the step has a process that ends when the step ends or waits. The parent is then the run's process."""
    name = context.job_def.executor_def.name
    if name == dg.multi_or_in_process_executor.name:  # the default of a project; the run's configuration chooses
        execution: Any = context.run.run_config.get("execution") or {}
        return "in_process" not in execution.get("config", {})
    return name in (WAITING_EXECUTOR, dg.multiprocess_executor.name)


def runs_on_this_host(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> bool:
    """Whether the run's process is on the host of its steps: not with Celery or Kubernetes, for example."""
    return has_own_process(context) or context.job_def.executor_def.name in (
        dg.in_process_executor.name,
        dg.multi_or_in_process_executor.name,
    )


def tag_run(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Tag the run with its host and process: the process that stays alive while a step waits."""
    run = multiprocessing.parent_process() if has_own_process(context) else None
    context.instance.add_run_tags(context.run.run_id, run_tags(os.getpid() if run is None else run.pid))


def of_location(context: dg.SensorEvaluationContext) -> dict[str, str]:
    """The tag of the runs of the sensor's code location: another one of the instance may have jobs of the same names.

    Dagster sets it for runs of the UI, of sensors and of backfills, and we set it for those of our commands. Runs of
    `dg launch` and `dagster job execute` have none.
    """
    origin = context.code_location_origin
    if origin is None:  # a tick in a test: there is no other code location
        return {}
    return {REPOSITORY_TAG: f"{context.repository_name}@{origin.location_name}"}


def starting_run(context: dg.SensorEvaluationContext, job_name: str) -> str | None:
    """Describe a run of the job that is queued or starting and has no worker yet; None if there is none.

    Once a run has a worker, the worker's heartbeat shows that it is alive. A run that has not changed for three minutes
    is ignored (30 s once it is STARTED): a power cut may have left it. A queued run may wait forever.
    """
    statuses = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    ours = of_location(context).get(REPOSITORY_TAG)
    for record in context.instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=statuses)):
        run, unchanged_seconds = record.dagster_run, seconds_since(record.update_timestamp)
        origin = run.remote_job_origin
        theirs = run.tags.get(REPOSITORY_TAG) if origin is None else origin.repository_origin.get_label()
        if None not in (ours, theirs) and theirs != ours:
            continue
        limits = {dg.DagsterRunStatus.QUEUED: None, dg.DagsterRunStatus.STARTED: STEP_SECONDS}
        limit = limits.get(run.status, STEPLESS_SECONDS)
        if limit is None or unchanged_seconds < limit:
            return f"run {run.run_id[:8]} of {job_name} is {run.status.value.lower()}"
    return None


def seconds_since(moment: datetime) -> float:
    """Seconds from an aware datetime until now. Infinity for one in the future: the clock was set back since then."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return math.inf if seconds < -CLOCKS_DIFFER_SECONDS else seconds
