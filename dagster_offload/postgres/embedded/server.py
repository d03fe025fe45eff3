"""The embedded server of one home: the first process that needs it starts it, and all others find it.

It runs in its own session without a TCP port, and keeps running when the process that started it ends. That process says so
in one line, unless it stops the server itself.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from dagster_offload.errors import LedgerAway, LedgerUnavailable
from dagster_offload.postgres.embedded import place
from dagster_offload.postgres.embedded.accounts import explained, make_private, prepare_home, server_account
from dagster_offload.postgres.embedded.binaries import binaries
from dagster_offload.postgres.embedded.cluster import check_major_version, make_cluster, write_access_rules
from dagster_offload.postgres.embedded.locks import POLL_SECONDS, server_lock
from dagster_offload.postgres.embedded.paths import NAME, PORT, Paths, rotate_log
from dagster_offload.postgres.embedded.postmaster import (
    end_server,
    has_lost_socket,
    is_alive,
    remove_stale_pid_files,
    spawn,
)
from dagster_offload.postgres.embedded.sockets import make_socket_folder, socket_folder
from dagster_offload.postgres.embedded.start_errors import start_error_message
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings.loading import command_for

logger = logging.getLogger(__name__)
starts = logging.getLogger(f"{__name__}.starts")  # a line for each start that this process makes

SILENCE_SECONDS = 60.0  # how long a running server may stay silent; there is no limit while it reports recovery
REFUSAL_SECONDS = 5.0  # how long it may refuse connections for another reason, such as too many clients
STOP_SECONDS = 15.0  # for a server that must be restarted to end
REPORT_AFTER_SECONDS = 2.0
REPORT_EVERY_SECONDS = 10.0

Report = Callable[[str], None]


def ensure_embedded(home: Path, *, options: Mapping[str, str] | None = None, report: Report = logger.warning) -> str:
    """Start the home's server unless it runs, and return the URL of its database. Restarts a server whose socket was removed.

    Waits as long as the server reports that it starts or recovers. Calls `report` with a message after 2 s, then every
    10 s. `options` are server options for a start made here (tests turn fsync off). Raises `LedgerUnavailable`.
    """
    paths = Paths(home)
    with explained(home):
        if is_alive(paths) and _try_connect(paths, NAME).is_ready:
            return _url(paths, NAME)
        prepare_home(home)
        make_private(paths.postgres, 0o711 if os.geteuid() == 0 else 0o700)
        with server_lock(paths.server_lock, lambda: report("waiting for another process to start Postgres")) as fd:
            if has_lost_socket(paths):
                starts.warning("The socket of Postgres in %s was removed: restarting Postgres.", home)
                end_server(paths, STOP_SECONDS)
            is_started_here = _start_and_wait(paths, fd, options or {}, report)
            _create_database(paths)
    if is_started_here:
        starts.warning("Started Postgres in %s. It keeps running; `%s` ends it.", home, command_for(home, "stop"))
    return _url(paths, NAME)


def embedded_url(home: Path) -> str:
    """The URL of the database of the home's server. Neither starts the server nor connects to it."""
    return _url(Paths(home), NAME)


def _start_and_wait(paths: Paths, lock_fd: int, options: Mapping[str, str], report: Report) -> bool:
    """Return whether it was started here. Raises `LedgerUnavailable`."""
    log_start: int | None = None  # the byte of the log at which the messages of a server started here begin
    started = unchanged_since = time.monotonic()
    report_at = started + REPORT_AFTER_SECONDS
    answer = None
    while True:
        if not is_alive(paths):
            if log_start is not None:
                raise LedgerUnavailable(start_error_message(paths, server_account(), _log_lines(paths, log_start)))
            log_start = rotate_log(paths)
            _start(paths, lock_fd, options)
        before, answer, now = answer, _try_connect(paths, "postgres"), time.monotonic()
        if answer.is_ready:
            return log_start is not None
        if answer != before:
            unchanged_since = now
        if now - unchanged_since > answer.patience_seconds:
            raise LedgerAway(
                f"the Postgres of OFFLOAD_HOME {paths.home} runs but cannot be used ({answer.message}):"
                f" see {paths.log}, or stop it with `{command_for(paths.home, 'stop')}`"
            )
        if now >= report_at:
            report(f"waiting for Postgres, {now - started:.0f} s so far ({answer.message})")
            report_at = now + REPORT_EVERY_SECONDS
        time.sleep(POLL_SECONDS)


def _start(paths: Paths, lock_fd: int, options: Mapping[str, str]) -> None:
    account = server_account()
    bin_folder = binaries(account, paths.postgres)
    place.refuse_copy(paths)
    if not paths.data.exists():
        make_cluster(paths, account, bin_folder, lock_fd)
    check_major_version(paths)
    place.remember(paths)
    sockets = make_socket_folder(paths.postgres, account)
    remove_stale_pid_files(paths, sockets)
    write_access_rules(paths)
    spawn(paths, account, bin_folder, sockets, options)


def _log_lines(paths: Paths, start: int) -> list[str]:
    with paths.log.open("rb") as log:
        log.seek(start)
        return log.read().decode(errors="replace").splitlines()


@dataclass(frozen=True)
class _Answer:
    is_ready: bool
    patience_seconds: float  # how long this answer may stay the same
    message: str


def _try_connect(paths: Paths, database: str) -> _Answer:
    """Check the server's state by connecting. libpq gives no code for a refused connection, so its text is parsed."""
    try:
        psycopg.connect(_url(paths, database), connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if "requirepeer" in str(error):
            raise LedgerUnavailable(
                f"the server at {socket_folder(paths.postgres)} is not the Postgres of OFFLOAD_HOME {paths.home}, but a process"
                f" of another user ({_peer(error)}). Nothing was sent to it: end that process, then run"
                f" `{command_for(paths.home, 'stop')}`"
            ) from None
        _, is_refusal, message = str(error).strip().splitlines()[0].rpartition("FATAL:")
        if not is_refusal:
            return _Answer(False, SILENCE_SECONDS, "it does not listen yet")
        is_changing_state = "the database system is" in message  # starting up, in recovery, shutting down
        return _Answer(False, math.inf if is_changing_state else REFUSAL_SECONDS, message.strip())
    return _Answer(True, math.inf, "ready")


def _peer(error: psycopg.OperationalError) -> str:
    """The owner of the process, from libpq's message `requirepeer specifies "x", but actual peer user name is "y"`."""
    return str(error).strip().rpartition("requirepeer ")[2]


def _create_database(paths: Paths) -> None:
    with psycopg.connect(_url(paths, "postgres"), autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", [NAME]).fetchone() is None:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))


def _url(paths: Paths, database: str) -> str:
    """Sets every parameter that libpq would otherwise take from PG* variables meant for another server."""
    return libpq_url(
        {
            "user": NAME,
            "dbname": database,
            "host": str(socket_folder(paths.postgres)),
            "hostaddr": "",
            "port": PORT,
            "options": "-c timezone=UTC",
            "client_encoding": "UTF8",
            "sslmode": "disable",
            "gssencmode": "disable",
            "channel_binding": "disable",
            "require_auth": "",
            # The socket may be in a temporary folder, where other users can remove and replace folders.
            "requirepeer": server_account().peer_name,
            "target_session_attrs": "any",
        }
    )
