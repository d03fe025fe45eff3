"""`dagster-offload stop`: stop the `up` of this home, its workers, then its Postgres, within 15 s."""

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import psutil  # type: ignore[import-untyped]

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings

# Deadlines since the start, 15 s in total: `up` ends its children (4 s), workers stop, Postgres has the rest.
CHILDREN_SECONDS = 5.0
WORKERS_SECONDS = 11.0
QUERY_SECONDS = 3.0  # for the names of the workers


@click.command("stop")
@home_option
@json_option
def command(*, as_json: bool) -> None:
    """Stop the `up` of this home, its workers and its Postgres. Nothing is lost: `up` continues where it stopped.

    \b
    dagster-offload stop
    OFFLOAD_HOME=/srv/offload dagster-offload stop
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.errors import SettingsError
    from dagster_offload.postgres import stop_postgres
    from dagster_offload.service.home import running_up
    from dagster_offload.settings.loading import read_place

    try:
        settings = read_in_force().settings
    except SettingsError as error:
        settings = read_place()  # `stop` needs no more
        click.echo(f"stopping what runs on {settings.home}, although the settings are wrong: {error}", err=True)
    started_at = time.monotonic()
    ended = []

    up = running_up(settings.home) if settings.home.is_dir() else None
    if up is not None and not up.is_here:
        raise Refusal(f"the `up` of {settings.home} runs on {up.host}, or in a container: stop it there")
    process = None if up is None else _find_process(up.pid)

    def has_ended() -> bool:
        # It gives its lock back before its process ends.
        return running_up(settings.home) is None and (process is None or not _is_alive(process))

    if up is not None:
        _send_signal(up.pid, signal.SIGTERM)
        _wait(has_ended, started_at + CHILDREN_SECONDS)
        ended.append("up")
    if workers := _end_workers(settings, started_at):
        ended.append(counted(workers, "worker"))
    if up is not None and not _wait(has_ended, started_at + WORKERS_SECONDS) and up.is_here:
        _send_signal(up.pid, signal.SIGKILL)
    if settings.home.is_dir() and stop_postgres(settings.home):
        ended.append("Postgres")
    if as_json:
        print_json({"home": str(settings.home), "stopped": ended})
    else:
        click.echo(f"stopped: {', '.join(ended)}" if ended else f"nothing was running on {settings.home}")


def _end_workers(settings: "Settings", started_at: float) -> int:
    """Send every worker of this host SIGTERM, and SIGKILL to those that do not end. Returns the number of workers."""
    from dagster_offload.postgres import is_running

    if settings.postgres_url is None and not is_running(settings.home):
        return 0
    found = _find_workers_in_time(settings)
    if isinstance(found, str):
        click.echo(
            f"cannot find the workers to stop ({found}): if one still runs, stop it in its terminal, or run"
            " `dagster-offload stop` again",
            err=True,
        )
        return 0
    for process in found:
        _send_signal(process.pid, signal.SIGTERM)
    _wait(lambda: not any(_is_alive(process) for process in found), started_at + WORKERS_SECONDS)
    for process in found:
        if _is_alive(process):
            _send_signal(process.pid, signal.SIGKILL)
    return len(found)


def _find_workers_in_time(settings: "Settings") -> list[psutil.Process] | str:
    """The workers of this host, or why they are not known. Takes at most `QUERY_SECONDS`."""
    from dagster_offload.postgres import reason_to_restart

    # A query can take minutes while Postgres recovers. `stop` has seconds, so it queries in a thread.
    outcome = queue.SimpleQueue[list[psutil.Process] | str]()
    threading.Thread(target=lambda: outcome.put(_find_workers(settings)), daemon=True).start()
    try:
        return outcome.get(timeout=QUERY_SECONDS)
    except queue.Empty:
        why = reason_to_restart(settings.home) if settings.postgres_url is None else None
        return why or f"Postgres did not answer within {QUERY_SECONDS:g} s"


def _find_workers(settings: "Settings") -> list[psutil.Process] | str:
    import psycopg

    from dagster_offload.errors import LedgerUnavailable
    from dagster_offload.host.machine import boot_id, host_name
    from dagster_offload.ledger.core.migrate import current_step
    from dagster_offload.ledger.core.workers import connected_sessions, live_workers, session_of

    try:
        with _open_ledger(settings) as ledger, ledger.transaction() as cur:
            has_ledger = current_step(cur, ledger.schema) is not None
            workers = live_workers(cur, ledger.schema) if has_ledger else []
            sessions = connected_sessions(cur, ledger.schema) if has_ledger else {}
    except (LedgerUnavailable, psycopg.Error) as error:
        return str(error)
    found: list[psutil.Process] = []
    here = (host_name(), boot_id())
    for worker in workers:
        # `up` has got its own signal. A second one would end its children without a grace period.
        if worker.kind != "up" and (worker.host, worker.boot_id) == here and worker.pid != os.getpid():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(worker.pid)
                session = sessions.get(worker.worker_id)
                if session:  # another container may have the name of this host, and processes with the same ids
                    is_its_process = session == session_of(worker.pid)
                else:
                    # If the worker is not connected, its process may have ended: one that started after the worker registered
                    # has only reused its id. That compares two clocks, so it does not decide about a connected worker.
                    is_its_process = session == "" or process.create_time() <= worker.started_at.timestamp()
                if is_its_process and process not in found:  # one process can be two workers: a command and its drain
                    found.append(process)
    return found


def _open_ledger(settings: "Settings") -> contextlib.AbstractContextManager["Ledger"]:
    """Not migrated: the settings may be wrong, and would then change the stages of the ledger.

    Starts no embedded Postgres, also not one that lost its socket: `stop` would have to stop it again.
    """
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.core.opening import reach_ledger
    from dagster_offload.postgres import embedded_url

    return Ledger(embedded_url(settings.home)) if settings.postgres_url is None else reach_ledger(settings)


def _find_process(pid: int) -> psutil.Process | None:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid)
    return None


def _send_signal(pid: int, signum: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _wait(is_over: Callable[[], bool], deadline: float) -> bool:
    while not is_over():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
