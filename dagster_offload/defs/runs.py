"""Ends the runs whose process died in a crash or a reboot.

Dagster's run monitoring cannot detect a dead worker of the default launcher. Such a run would stay STARTED forever and
count against the queue's limits. So each step writes its host and process into the tags of its run, and `up` sweeps the
runs before it starts the daemon, and every hour for those of commands in a terminal, which are not its children.
"""

import json
import math
import multiprocessing
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import psutil  # type: ignore[import-untyped]

from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.execution.waiting import record_if_done
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
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.work import waiting_runs

# Enough for a process to start on a slow machine. The run monitor's limit for a start is the same.
STEPLESS_SECONDS = 180.0
# From a run's start to its worker's first heartbeat.
STEP_SECONDS = 30.0

# Another host may write a time that lies this far in the future.
CLOCKS_DIFFER_SECONDS = 60.0

GONE = "its process ended unexpectedly"

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


def sweep(reporter: EventReporter, *, was_restored: bool = False, beside_up: bool = False) -> list[str]:
    """End the runs whose process has died. Returns one sentence per run.

    `was_restored`: this is a copy from a backup, so that no run of any host belongs to it. `beside_up`: runs start and wait
    meanwhile, so only those end whose process is known, is gone, and is no worker in a container with this host's name.

    A waiting run does not fail: it succeeds if its documents are done by now, and is cancelled otherwise. Runs of other
    hosts are not changed, unless the Postgres is embedded: then they are of an earlier container. A run that never
    reached its step has no process in its tags. It is ended if it has not changed for three minutes, or if it is older
    than this host's boot and no other host works on this ledger.
    """
    instance, ledger = reporter.instance, reporter.ledger
    live_workers = ledger.run(workers.live_workers, ledger.schema)
    is_alone = all(worker.host == host_name() for worker in live_workers)
    is_embedded = reporter.settings.postgres_url is None
    connected = (
        {worker.host for worker in ledger.run(workers.connected_workers, ledger.schema)} if is_embedded else None
    )
    runs_of_workers = {worker.run_id for worker in live_workers}
    ended, alive_runs = [], []
    for record in instance.get_run_records(dg.RunsFilter(statuses=LAUNCHED)):
        run = record.dagster_run
        ran_on = RanOn.of(run.tags)
        why: str | None
        if was_restored:
            why = "it ran when the backup was made"
        elif beside_up:
            why = None if run.run_id in runs_of_workers else _why_gone(ran_on, record.update_timestamp)
            if why is not None and not _is_launched(instance, run.run_id):  # it ended meanwhile
                continue
        else:
            why = _why_dead(ran_on, record.update_timestamp, is_alone=is_alone, connected=connected)
        if why is None:
            alive_runs.append(run.run_id)
        else:
            ended.append(_end(reporter, run, why))
    if not beside_up:  # a run that began to wait in this moment is not among them
        ledger.run(waiting_runs.forget_others, alive_runs)
    return ended


def _end(reporter: EventReporter, run: dg.DagsterRun, why: str) -> str:
    """End one run whose process has died. Returns a sentence for people."""
    instance, name = reporter.instance, f"run {run.run_id[:8]} ({run.job_name})"
    message = f"{why}. The ledger keeps finished work; a drain or another run finishes the rest."
    waiting = reporter.ledger.run(waiting_runs.find, run.run_id)
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message=message)
    elif record_if_done(reporter, run.run_id):
        message = f"{why}. It waited for documents that other workers have finished since then."
        succeeded = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name, message=message)
        instance.report_dagster_event(succeeded, run.run_id)
        return f"{name} was waiting and its documents are done: reported as a success"
    elif waiting is not None:
        instance.report_run_canceled(run, message=f"{message} It was waiting: {waiting.reason}.")
        return f"{name} was waiting and its documents are still due: reported as cancelled"
    else:
        instance.report_run_failed(run, message=message)
    return f"{name} was {run.status.value}: {why}"


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


def _why_dead(
    ran_on: RanOn | None, changed_at: datetime, *, is_alone: bool, connected: Collection[str] | None
) -> str | None:
    """Why the process of a run must have died; None if it may be alive.

    `connected`: the hosts whose workers are connected, if the Postgres is embedded. It serves one host only, so another one is
    an earlier container, or this host under another name.
    """
    if ran_on is not None and ran_on.host != host_name():
        if connected is None or ran_on.host in connected:
            return None
        if ran_on.boot != boot_id():
            return "its host or its container is gone"
    if ran_on is not None and ran_on.boot != boot_id():
        return "this machine was restarted while it ran"
    if ran_on is None or ran_on.pid is None:  # a sensor's tag has host and boot; the step adds the process
        return _why_never_started(changed_at, is_alone=is_alone)
    return None if process_start(ran_on.pid) == ran_on.started else GONE


def _is_launched(instance: dg.DagsterInstance, run_id: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in LAUNCHED


def _why_gone(ran_on: RanOn | None, changed_at: datetime) -> str | None:
    """Why the known process of a run on this host is gone; None if it is there, or is not known here.

    A run that changed in the last minutes may be a re-execution, which has the tags of its parent until its step begins.
    """
    if seconds_since(changed_at) < STEPLESS_SECONDS:
        return None
    if ran_on is None or ran_on.pid is None or (ran_on.host, ran_on.boot) != (host_name(), boot_id()):
        return None
    return None if process_start(ran_on.pid) == ran_on.started else GONE


def _why_never_started(changed_at: datetime, *, is_alone: bool) -> str | None:
    if seconds_since(changed_at) > STEPLESS_SECONDS:
        return "it never reached its first step"
    if is_alone and changed_at.timestamp() < psutil.boot_time():
        return "this machine was restarted before its first step"
    return None


def seconds_since(moment: datetime) -> float:
    """Seconds from an aware datetime until now. Infinity for one in the future: the clock was set back since then."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return math.inf if seconds < -CLOCKS_DIFFER_SECONDS else seconds
