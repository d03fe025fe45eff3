"""Ends the runs whose process died in a crash or a reboot, and starts those again that had not begun.

Dagster's run monitoring cannot detect a dead worker of the default launcher. Such a run would stay STARTED forever and
count against the queue's limits. So each step writes its host and process into the tags of its run, and `up` sweeps the
runs before it starts the daemon, and every hour for those of commands in a terminal, which are not its children.
"""

from collections.abc import Collection
from datetime import datetime

import dagster as dg
import psutil  # type: ignore[import-untyped]

from dagster_offload.defs.events import EventReporter
from dagster_offload.defs.execution.waiting import record_if_done
from dagster_offload.defs.runs import LAUNCHED, STEPLESS_SECONDS, RanOn, seconds_since
from dagster_offload.host.machine import boot_id, host_name, process_start
from dagster_offload.ledger.core import workers
from dagster_offload.ledger.work import waiting_runs

GONE = "its process ended unexpectedly"


def requeue(reporter: EventReporter) -> list[str]:
    """Put runs back into the queue that the `up` before was starting when it ended. Returns one sentence per run.

    Only a daemon makes a run STARTING, and this `up` has not started its own. While another `up` works on this ledger, such
    a run may be of its daemon.
    """
    instance, ledger = reporter.instance, reporter.ledger
    ups = [worker for worker in ledger.run(workers.connected_workers, ledger.schema) if worker.kind == workers.UP]
    if len(ups) > 1:
        return []
    starting = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))
    for run in starting:
        queued = dg.DagsterEvent(
            dg.DagsterEventType.RUN_ENQUEUED.value,
            run.job_name,
            message="`up` ended before this run began. It is back in the queue.",
        )
        instance.report_dagster_event(queued, run.run_id)
    return [f"run {run.run_id[:8]} ({run.job_name}) was about to start: it is back in the queue" for run in starting]


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
