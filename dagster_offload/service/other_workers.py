"""The wait for commands in other terminals, before `up` stops the Postgres that they use."""

import os
import time

import psutil  # type: ignore[import-untyped]

from dagster_offload.host.machine import host_name
from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.workers import WorkerRow, live_workers
from dagster_offload.service.say import Say
from dagster_offload.service.supervisor import StopRequest

OTHER_WORKERS_SECONDS = 10.0


def wait_for_others(ledger: Ledger, stop: StopRequest, say: Say) -> None:
    """Wait at most 10 s for drains and scans of other terminals to disconnect from Postgres."""
    deadline = time.monotonic() + OTHER_WORKERS_SECONDS
    is_reported = False

    def is_over() -> bool:
        return time.monotonic() > deadline or stop.is_impatient

    while not is_over():
        looking = start_in_daemon_thread(_live_workers, ledger)  # takes a minute if Postgres does not answer
        while not looking.done():
            if is_over():
                return
            time.sleep(0.05)
        others = looking.result()
        if not others:
            return
        if not is_reported:
            say("Waiting for other workers: " + ", ".join(f"{worker.kind} (process {worker.pid})" for worker in others))
            is_reported = True
        time.sleep(0.2)


def _live_workers(ledger: Ledger) -> list[WorkerRow]:
    """The workers whose process still runs, one per process: the drain inside a command, not the command.

    The check by process id leaves out our own run workers: they have just ended but still have a live row.
    """
    newest = {(worker.host, worker.pid): worker for worker in ledger.run(live_workers, ledger.schema)}
    here, me = host_name(), os.getpid()
    return [worker for (host, pid), worker in newest.items() if host != here or (pid != me and psutil.pid_exists(pid))]
