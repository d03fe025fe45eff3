"""The embedded server of one home: started by the first door that needs it, found by all others.

It runs in a session of its own without a TCP port, and goes on when the door that started it ends.
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

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import explained, make_private, prepare_home, server_account
from dagster_offload.postgres.embedded.binaries import binaries
from dagster_offload.postgres.embedded.cluster import check_major_version, make_cluster, write_access_rules
from dagster_offload.postgres.embedded.locks import POLL_SECONDS, server_lock
from dagster_offload.postgres.embedded.paths import NAME, PORT, Paths, turn_log
from dagster_offload.postgres.embedded.postmaster import forget_dead_server, lives, spawn
from dagster_offload.postgres.embedded.sockets import make_socket_folder, socket_folder
from dagster_offload.postgres.embedded.start_errors import complaint
from dagster_offload.postgres.urls import libpq_url

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 60.0  # how long a living server may say nothing at all; while it says it recovers, we wait
REFUSAL_SECONDS = 5.0  # how long it may refuse us for another reason, such as too many clients
TELL_AFTER_SECONDS = 2.0
TELL_EVERY_SECONDS = 10.0

Tell = Callable[[str], None]


def ensure_embedded(home: Path, *, options: Mapping[str, str] | None = None, tell: Tell = logger.warning) -> str:
    """Start the home's server unless it runs, and return the URL of its database.

    Waits as long as the server says that it starts or recovers; `tell` hears so after 2 s, then every 10 s.
    `options` are server options for a start made here (tests turn fsync off). Raises `LedgerUnavailable`.
    """
    paths = Paths(home)
    with explained(home):
        if lives(paths) and _knock(paths, NAME).is_ready:
            return _url(paths, NAME)
        prepare_home(home)
        make_private(paths.postgres, 0o711 if os.geteuid() == 0 else 0o700)
        with server_lock(paths.server_lock, lambda: tell("another process is starting Postgres: waiting for it")) as fd:
            _start_and_wait(paths, fd, options or {}, tell)
            _create_database(paths)
    return _url(paths, NAME)


def _start_and_wait(paths: Paths, lock_fd: int, options: Mapping[str, str], tell: Tell) -> None:
    log_start: int | None = None  # where the words of a server started here begin
    began = since = time.monotonic()
    tell_at = began + TELL_AFTER_SECONDS
    answer = None
    while True:
        if not lives(paths):
            if log_start is not None:
                raise LedgerUnavailable(complaint(paths, server_account(), _log_lines(paths, log_start)))
            log_start = turn_log(paths)
            _start(paths, lock_fd, options)
        before, answer, now = answer, _knock(paths, "postgres"), time.monotonic()
        if answer.is_ready:
            return
        if answer != before:
            since = now
        if now - since > answer.patience_seconds:
            raise LedgerUnavailable(
                f"the Postgres of OFFLOAD_HOME {paths.home} runs and cannot be used ({answer.words}):"
                f" see {paths.log}, or stop it with `dagster-offload stop`"
            )
        if now >= tell_at:
            tell(f"waiting for Postgres, {now - began:.0f} s so far ({answer.words})")
            tell_at = now + TELL_EVERY_SECONDS
        time.sleep(POLL_SECONDS)


def _start(paths: Paths, lock_fd: int, options: Mapping[str, str]) -> None:
    account = server_account()
    bin_folder = binaries(account, paths.postgres)
    if not paths.data.exists():
        make_cluster(paths, account, bin_folder, lock_fd)
    check_major_version(paths)
    sockets = make_socket_folder(paths.postgres, account)
    forget_dead_server(paths, sockets)
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
    words: str


def _knock(paths: Paths, database: str) -> _Answer:
    """Ask the server how it is by connecting. A refused connection has no code in libpq, so its words are read."""
    try:
        psycopg.connect(_url(paths, database), connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if "requirepeer" in str(error):
            raise LedgerUnavailable(
                f"what answers at {socket_folder(paths.postgres)} is not the Postgres of OFFLOAD_HOME {paths.home}, but a "
                f"process of another user ({_peer(error)}). Nothing was sent to it: end that process, then dagster-offload stop"
            ) from None
        _, is_refusal, words = str(error).strip().splitlines()[0].rpartition("FATAL:")
        if not is_refusal:
            return _Answer(False, SILENCE_SECONDS, "it does not listen yet")
        is_on_its_way = "the database system is" in words  # starting up, in recovery, shutting down
        return _Answer(False, math.inf if is_on_its_way else REFUSAL_SECONDS, words.strip())
    return _Answer(True, math.inf, "ready")


def _peer(error: psycopg.OperationalError) -> str:
    """Whose process it is, from libpq's words: `requirepeer specifies "x", but actual peer user name is "y"`."""
    return str(error).strip().rpartition("requirepeer ")[2]


def _create_database(paths: Paths) -> None:
    with psycopg.connect(_url(paths, "postgres"), autocommit=True) as conn:
        if conn.execute("select 1 from pg_database where datname = %s", [NAME]).fetchone() is None:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))


def _url(paths: Paths, database: str) -> str:
    """Names every parameter that libpq would otherwise take from PG* variables meant for somebody else's server."""
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
            # The socket's folder may lie in a temporary one, which others clear away and fill.
            "requirepeer": server_account().peer_name,
            "target_session_attrs": "any",
        }
    )
