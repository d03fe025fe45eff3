"""Runs after a crash or a reboot: which are still somebody's, and which only look so.

Run monitoring cannot see a dead worker of the default launcher: such a run stays STARTED for ever and holds a place in
the queue's limits. So each step writes into its run's tags where it runs, and `up` sweeps before its daemon starts.
"""

import json
import multiprocessing
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from dagster_offload.defs.events import Teller
from dagster_offload.defs.names import RAN_ON_TAG, WAITING_EXECUTOR
from dagster_offload.defs.waiting import record_if_done
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.core.workers import boot_id, host_name
from dagster_offload.ledger.work import waiting_runs

# Long enough for a process to start on a slow machine; the run monitor's own limit for a start is the same.
STEPLESS_SECONDS = 180.0
# From a run's start to its worker's first heartbeat.
STEP_SECONDS = 30.0

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class RanOn:
    """Where a run runs. `started` is when the process began, as text that no later process with its pid shares."""

    host: str
    boot: str
    pid: int | None = None
    started: str | None = None

    def __str__(self) -> str:
        return json.dumps([self.host, self.pid, self.started, self.boot], ensure_ascii=False)

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "RanOn | None":
        if RAN_ON_TAG not in tags:
            return None
        host, pid, started, boot = json.loads(tags[RAN_ON_TAG])
        return cls(host, boot, pid, started)


def run_tags(pid: int | None = None) -> dict[str, str]:
    """Where a run runs: host, boot and process. For the tags of a run, set by its step or at its launch."""
    started = None if pid is None else _started(pid)
    return {RAN_ON_TAG: str(RanOn(host_name(), boot_id(), None if started is None else pid, started))}


def has_own_process(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> bool:
    """Whether the step runs in a process that ends when it ends or waits. The one that started it is the run's."""
    return context.job_def.executor_def.name in (WAITING_EXECUTOR, dg.multiprocess_executor.name)


def tag_run(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> None:
    """Write into the run's tags where it runs. The process is the one that lives while a step waits."""
    run = multiprocessing.parent_process() if has_own_process(context) else None
    context.instance.add_run_tags(context.run.run_id, run_tags(os.getpid() if run is None else run.pid))


def sweep(teller: Teller) -> list[str]:
    """End the runs that no process works on any more; returns a sentence for each.

    A run that only waited is no failure: it succeeds where its documents are done by now, and is cancelled otherwise.
    Runs tagged by another host are left to it. A run that never reached its step names no process: it is given up when
    it has not moved for three minutes, or was there before this host booted and no other host works on this ledger.
    """
    instance, ledger = teller.instance, teller.ledger
    alive = ledger.run(workers.live_workers, ledger.schema)
    is_alone = all(worker.host == host_name() for worker in alive)
    told, left = [], []
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        why = _why_dead(RanOn.of(run.tags), record.update_timestamp, is_alone=is_alone)
        if why is None:
            left.append(run.run_id)
        else:
            told.append(_end(teller, run, why))
    ledger.run(waiting_runs.forget_others, left)
    return told


def _end(teller: Teller, run: dg.DagsterRun, why: str) -> str:
    """End one run whose process is gone; returns the sentence about it."""
    instance, name = teller.instance, f"run {run.run_id[:8]} ({run.job_name})"
    words = f"{why}. Its documents are safe in the ledger: what was not finished is taken up again."
    waiting = teller.ledger.run(waiting_runs.find, run.run_id)
    if run.status is dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, message=words)
    elif record_if_done(teller, run.run_id):
        done = f"It waited for documents that other workers have finished; it could not say so itself: {why}."
        succeeded = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name, message=done)
        instance.report_dagster_event(succeeded, run.run_id)
        return f"{name} waited, its documents are done: it is reported as a success"
    elif waiting is not None:
        waits = f"Cancelled while it waited ({waiting.reason}): {why}. Its documents stay due: a drain takes them up."
        instance.report_run_canceled(run, message=waits)
        return f"{name} waited, its documents stay due: it is reported as cancelled"
    else:
        instance.report_run_failed(run, message=words)
    return f"{name} was {run.status.value}: {why}"


def about_to_start(instance: dg.DagsterInstance, job_name: str) -> str | None:
    """In words, the runs of a job that no worker speaks for yet; None where there are none.

    Once a run has its worker, the worker's heartbeat is what counts. A run that has not moved for three minutes is not
    waited for: it may be what a power cut left behind. Only a queued one may wait for its turn for ever.
    """
    statuses = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    for record in instance.get_run_records(dg.RunsFilter(job_name=job_name, statuses=statuses)):
        run, still = record.dagster_run, seconds_since(record.update_timestamp)
        limit = {dg.DagsterRunStatus.QUEUED: None, dg.DagsterRunStatus.STARTED: STEP_SECONDS}
        patience = limit.get(run.status, STEPLESS_SECONDS)
        if patience is None or still < patience:
            return f"run {run.run_id[:8]} of {job_name} is {run.status.value.lower()}"
    return None


def _why_dead(ran_on: RanOn | None, moved_at: datetime, *, is_alone: bool) -> str | None:
    if ran_on is not None and ran_on.host != host_name():
        return None
    if ran_on is not None and ran_on.boot != boot_id():
        return "this machine was restarted while it ran"
    if ran_on is None or ran_on.pid is None:  # a sensor names host and boot; the process is named by the step
        return _why_stepless(moved_at, is_alone=is_alone)
    return None if _started(ran_on.pid) == ran_on.started else "its process ended without a word"


def _why_stepless(moved_at: datetime, *, is_alone: bool) -> str | None:
    if seconds_since(moved_at) > STEPLESS_SECONDS:
        return "it never reached its first step"
    booted_at = _booted_at()
    if is_alone and booted_at is not None and moved_at.timestamp() < booted_at:
        return "this machine was restarted before its first step"
    return None


def _started(pid: int) -> str | None:
    """When a process began, as text that no later process with the same id shares; None where there is none."""
    try:
        # proc(5): the command name stands in parentheses and may hold anything; starttime is field 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    found = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip() or None


def _booted_at() -> float | None:
    """When this host booted, in seconds since the epoch; None where it does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    for line in stat.read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def seconds_since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
