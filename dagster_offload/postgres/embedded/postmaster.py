"""The server as processes: spawned into a session of its own, known again by its data folder, stopped by signal."""

import logging
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, explained
from dagster_offload.postgres.embedded.binaries import ENVIRONMENT
from dagster_offload.postgres.embedded.locks import is_held, life_lock, server_lock_within, wait_until
from dagster_offload.postgres.embedded.paths import PORT, Paths, open_log
from dagster_offload.postgres.embedded.sockets import SOCKET_NAME

logger = logging.getLogger(__name__)

IMMEDIATE_STOP_SECONDS = 6.5  # Postgres itself kills a child that does not quit within 5 s
LOCK_WAIT_SECONDS = 1.0

SERVER_OPTIONS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",  # doors read what a server that is coming up says of itself
    "cluster_name": "dagster-offload",
    # Allocated up front, because /dev/shm is 64 MB in a container and emptied when a person logs out (RemoveIPC).
    "min_dynamic_shared_memory": "16MB",
    "max_parallel_workers_per_gather": "0",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_min_messages": "warning",
    # Statements and rows hold document text: neither belongs into a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def spawn(paths: Paths, account: Account, bin_folder: Path, sockets: Path, options: Mapping[str, str]) -> None:
    """Start the server and return at once; the caller holds the home's lock and no process of an old server lives."""
    options = {
        **SERVER_OPTIONS,
        "hba_file": str(paths.access_rules),
        "ident_file": str(paths.user_names),
        "unix_socket_directories": _quoted_list_item(sockets),
        **options,
    }
    arguments = [str(bin_folder / "postgres"), "-D", str(paths.data)]
    for name, value in options.items():
        arguments += ["-c", f"{name}={value}"]
    with open_log(paths) as log_fd, life_lock(paths.alive) as alive_fd:
        if alive_fd is None:
            return  # one lives after all
        # The shell is gone at once, so the server is nobody's child: no door must reap it, and none takes it along.
        subprocess.run(  # noqa: S603
            ["/bin/sh", "-c", '"$@" &', "sh", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(alive_fd,),
            start_new_session=True,
            cwd="/",
            env=ENVIRONMENT,
            **account.spawn_options,
        )


def _quoted_list_item(folder: Path) -> str:
    """A path as one element of a Postgres list setting, where a comma or a space would otherwise end it."""
    return '"' + str(folder).replace('"', '""') + '"'


def is_running(home: Path) -> bool:
    """Whether any process of the home's server lives, ready or not."""
    with explained(home):
        return lives(Paths(home))


def lives(paths: Paths) -> bool:
    """The lock's word, and the pid file's too: on network file systems a lock is not inherited."""
    return is_held(paths.alive) or _postmaster(paths) is not None


def server_pid(home: Path) -> int | None:
    """The process id of the home's server; None where none runs, or not as a process we can see."""
    with explained(home):
        process = _postmaster(Paths(home))
    return None if process is None else int(process.pid)


def stop_postgres(home: Path, *, within_seconds: float = 15.0) -> bool:
    """Stop the home's server, and return when no process of it is left. False where none ran.

    Fast at first (open transactions roll back); in the last 6.5 s at once, which the next start recovers from.
    Raises `LedgerUnavailable` when it runs on.
    """
    paths = Paths(home)
    fast_seconds = max(within_seconds - IMMEDIATE_STOP_SECONDS - LOCK_WAIT_SECONDS, 0.0)
    with explained(home):
        if not lives(paths):
            return False
        # Not got in time, it goes on without: who holds it so long waits for a recovery, and sees the server go.
        with server_lock_within(paths.server_lock, LOCK_WAIT_SECONDS):
            for how, seconds in ((signal.SIGINT, fast_seconds), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)):
                _send(_postmaster(paths), how)
                if wait_until(lambda: not lives(paths), seconds):
                    return True
    raise LedgerUnavailable(
        f"the Postgres of OFFLOAD_HOME {home} does not stop: see {paths.log}; it may run in another container"
    )


def _send(process: psutil.Process | None, how: signal.Signals) -> None:
    if process is None:
        return
    try:
        process.send_signal(how)  # psutil checks that the number is still this very process
    except psutil.NoSuchProcess:
        logger.debug("Postgres ended before it was asked to")


def _postmaster(paths: Paths) -> psutil.Process | None:
    """The process named in postmaster.pid, if it is a server of this data folder; a foreign one is never returned."""
    pid = _pid_in_file(paths)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        is_ours = process.name().startswith("postgres") and os.path.samefile(process.cwd(), paths.data)
    except (psutil.Error, OSError):  # gone, a zombie, or a process we may not look at: not ours
        return None
    return process if is_ours else None


def _pid_in_file(paths: Paths) -> int | None:
    try:
        return int(paths.pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def forget_dead_server(paths: Paths, sockets: Path) -> None:
    """Remove what a dead server wrote its pid into, where a foreign process or a zombie has that number now.

    Postgres itself overrules such a file when no process has the number, but refuses to start when one of the same user
    has. The process is left alone. The caller holds the home's lock and knows that this server does not live.
    """
    (sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
    pid = _pid_in_file(paths)
    if pid is not None and psutil.pid_exists(pid):
        paths.pid_file.unlink(missing_ok=True)
