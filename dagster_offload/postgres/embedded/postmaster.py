"""The server's processes: started in their own session, identified by the data folder, stopped by signal."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, explained
from dagster_offload.postgres.embedded.locks import alive_lock, is_held, server_lock_within, wait_until
from dagster_offload.postgres.embedded.paths import PORT, Paths, open_log
from dagster_offload.postgres.embedded.sockets import SOCKET_NAME, remove_temporary_folder, socket_path

logger = logging.getLogger(__name__)

IMMEDIATE_STOP_SECONDS = 6.5  # Postgres kills a child that does not quit within 5 s
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
    "lc_messages": "C",  # `_try_connect` parses the messages of a starting server
    "cluster_name": "dagster-offload",
    # Allocated up front, because /dev/shm is 64 MB in a container and is emptied when a user logs out (RemoveIPC).
    "min_dynamic_shared_memory": "16MB",
    "max_parallel_workers_per_gather": "0",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_min_messages": "warning",
    # Statements and rows hold document text, which must not appear in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def spawn(paths: Paths, account: Account, bin_folder: Path, sockets: Path, options: Mapping[str, str]) -> None:
    """Start the server and return at once. The caller holds the start lock, and no process of an old server runs."""
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
    with open_log(paths) as log_fd, alive_lock(paths.alive) as alive_fd:
        if alive_fd is None:
            return  # a server runs already
        # The shell exits at once and init adopts the server: the caller need not reap it, and its end does not stop it.
        account.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *arguments],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=(alive_fd,),
            start_new_session=True,
        )


def _quoted_list_item(folder: Path) -> str:
    """Quote a path as one element of a Postgres list setting, where a comma or a space would otherwise end it."""
    return '"' + str(folder).replace('"', '""') + '"'


def has_embedded(home: Path) -> bool:
    """Return whether the home has the data folder of an embedded server. Raises `LedgerUnavailable`."""
    with explained(home):
        return Paths(home).data.is_dir()


def is_running(home: Path) -> bool:
    """Return whether any process of the home's server runs, ready or not. Raises `LedgerUnavailable`."""
    with explained(home):
        return is_alive(Paths(home))


def is_alive(paths: Paths) -> bool:
    """Return whether a server process runs. Checks the pid file too: network file systems do not inherit locks."""
    return is_held(paths.alive) or _postmaster(paths) is not None


def reason_to_restart(home: Path) -> str | None:
    """Return why the home's server must be started again, or None if it need not. Raises `LedgerUnavailable`."""
    with explained(home):
        paths = Paths(home)
        if not is_alive(paths):
            return "Postgres ended"
        return "Postgres lost its socket, which was removed" if has_lost_socket(paths) else None


def has_lost_socket(paths: Paths) -> bool:
    """Return whether the server accepts connections but its socket was removed, as programs do that clean up /tmp.

    Its connections go on, but no process can open another one. That ends only with a restart.
    """
    process = _postmaster(paths)
    if process is None or not _says_it_is_ready(paths):
        return False
    # In this order: a server has its socket before it says that it is ready.
    return not socket_path(paths.postgres).exists() and _has_our_mounts(process)


def end_server_of_removed_home(server: psutil.Process) -> None:
    """End a server whose data folder was removed. It would notice that within a minute, and write files until then.

    The server of a home that was moved goes on: its working folder is its data folder, wherever that is now.
    """
    try:
        if not Path(server.cwd(), "PG_VERSION").exists():
            server.send_signal(signal.SIGQUIT)
    except (psutil.Error, OSError):  # it ended
        return


def server_process(home: Path) -> psutil.Process | None:
    """Return the home's server, or None if none runs or its process is not visible to us."""
    with explained(home):
        return _postmaster(Paths(home))


def server_pid(home: Path) -> int | None:
    """Return the process id of the home's server, or None if none runs or its process is not visible to us."""
    process = server_process(home)
    return None if process is None else int(process.pid)


def stop_postgres(home: Path, *, within_seconds: float = 15.0) -> bool:
    """Stop the home's server, and return when none of its processes is left. Returns False if none ran.

    Tries a fast shutdown first (open transactions roll back). In the last 6.5 s it requests an immediate shutdown,
    from which the next start recovers. Raises `LedgerUnavailable` if the server still runs after `within_seconds`.
    """
    paths = Paths(home)
    with explained(home):
        if not is_alive(paths):
            return False
        # Stop even without the lock: a process that holds it this long waits for a recovery and notices the stop.
        with server_lock_within(paths.server_lock, LOCK_WAIT_SECONDS) as is_locked:
            end_server(paths, within_seconds - LOCK_WAIT_SECONDS)
            if is_locked:
                remove_temporary_folder(paths.postgres)
    return True


def end_server(paths: Paths, within_seconds: float) -> None:
    """Stop the server as `stop_postgres` does. The caller has tried to take the start lock. Raises `LedgerUnavailable`."""
    fast_seconds = max(within_seconds - IMMEDIATE_STOP_SECONDS, 0.0)
    for how, seconds in ((signal.SIGINT, fast_seconds), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)):
        _send(_postmaster(paths), how)
        if wait_until(lambda: not is_alive(paths), seconds):
            return
    raise LedgerUnavailable(
        f"the Postgres of OFFLOAD_HOME {paths.home} does not stop (it may run in another container): see {paths.log}"
    )


def _send(process: psutil.Process | None, how: signal.Signals) -> None:
    if process is None:
        return
    try:
        process.send_signal(how)  # psutil checks that the pid still belongs to this process
    except psutil.NoSuchProcess:
        logger.debug("Postgres ended before the stop signal was sent")


def _postmaster(paths: Paths) -> psutil.Process | None:
    """Return the process named in postmaster.pid if it is a server of this data folder, else None."""
    pid = _pid_in_file(paths)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        is_server = process.name().startswith("postgres") and os.path.samefile(process.cwd(), paths.data)
    except (psutil.Error, OSError):  # it ended, is a zombie, or belongs to another user
        return None
    return process if is_server else None


def _has_our_mounts(process: psutil.Process) -> bool:
    """Whether the process sees the same files at the same paths as this one. `PrivateTmp=` of systemd gives it another /tmp."""
    if sys.platform != "linux":
        return True
    try:
        return os.readlink(f"/proc/{process.pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:  # it ended, or belongs to another user
        return False


def _says_it_is_ready(paths: Paths) -> bool:
    """Whether the last line of the pid file says that the server accepts connections (PostgreSQL: utils/pidfile.h)."""
    with contextlib.suppress(FileNotFoundError):
        return paths.pid_file.read_text().rstrip().endswith("\nready")
    return False


def _pid_in_file(paths: Paths) -> int | None:
    try:
        return int(paths.pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def remove_stale_pid_files(paths: Paths, sockets: Path) -> None:
    """Remove a dead server's pid file if another process or a zombie now has that pid, and its socket lock file.

    Postgres ignores a stale pid file if no process has the pid, but refuses to start if a process of the same user has
    it. That process is left alone. The caller holds the start lock and knows that this server does not run.
    """
    (sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
    pid = _pid_in_file(paths)
    if pid is not None and psutil.pid_exists(pid):
        paths.pid_file.unlink(missing_ok=True)
