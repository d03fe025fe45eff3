"""Restarts the embedded Postgres if it dies or loses its socket under a running `up` or a job in a terminal.

Postgres is not a child process, so the supervisor does not restart it. Dagster only retries its connection for six
seconds.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres import (
    end_server_of_removed_home,
    reason_to_restart,
    server_process,
    stop_postgres,
)
from dagster_offload.service.home import keep_log_small
from dagster_offload.service.say import Say

CHECK_EVERY_SECONDS = 2.0


@contextlib.contextmanager
def kept_alive(home: Path, revive: Callable[[], None]) -> Iterator[None]:
    """Check Postgres from a thread during the block and restart it if it must be. It keeps running afterwards."""
    over = threading.Event()

    def watch_until_over() -> None:
        while not over.wait(CHECK_EVERY_SECONDS / 2):
            with contextlib.suppress(LedgerUnavailable):  # the home cannot be read: often only for a moment
                if reason_to_restart(home) is not None:
                    revive()

    threading.Thread(target=watch_until_over, name="keep-postgres", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class KeptPostgres:
    """The embedded Postgres of `up`, which stops it at the end.

    `revive` starts Postgres and returns when it answers. It runs in a thread, because a recovery can take minutes.
    """

    def __init__(self, home: Path, revive: Callable[[], None], say: Say) -> None:
        self._home = home
        self._log = home / "postgres" / "server.log"
        self._revive = revive
        self._say = say
        self._reviving: threading.Thread | None = None
        self._next_check = time.monotonic()
        self._not_checked = ""  # why the last check was not possible
        self._why = ""  # it is being restarted
        self._server: psutil.Process | None = None
        self._remember_server()

    def check(self) -> None:
        """Restart Postgres if it must be. Call this often: it checks at most every 2 s."""
        if (now := time.monotonic()) < self._next_check:
            return
        self._next_check = now + CHECK_EVERY_SECONDS
        self._remember_server()
        keep_log_small(self._log)
        is_reviving = self._reviving is not None and self._reviving.is_alive()
        if is_reviving:
            return
        before, self._why = self._why, self._reason_to_restart() or ""
        if not self._why:
            return
        if self._why != before:  # else the last restart failed
            self._say(f"{self._why}; restarting it. Log: {self._log}")
        self._reviving = threading.Thread(target=self._revive, name="revive-postgres", daemon=True)
        self._reviving.start()

    def _reason_to_restart(self) -> str | None:
        """Why it must be restarted. None also if that is not known now: too many open files, a disk that does not answer."""
        try:
            why = reason_to_restart(self._home)
        except LedgerUnavailable as error:
            if str(error) != self._not_checked:
                self._say(f"Postgres cannot be checked: {error}. The next check is in {CHECK_EVERY_SECONDS:g} s")
            self._not_checked = str(error)
            return None
        self._not_checked = ""
        return why

    def _remember_server(self) -> None:
        with contextlib.suppress(LedgerUnavailable):  # `_reason_to_restart` says so
            self._server = server_process(self._home) or self._server

    def end_if_removed(self) -> None:
        """End the server of a home that was removed or moved, unless the home was only moved. Makes no file in it."""
        if self._server is not None:
            end_server_of_removed_home(self._server)

    def stop(self) -> None:
        """Stop Postgres, even during a restart: the restart gives up when Postgres stops."""
        stop_postgres(self._home)
        if self._reviving is not None:
            self._reviving.join(CHECK_EVERY_SECONDS)
            stop_postgres(self._home)
