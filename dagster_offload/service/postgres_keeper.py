"""The embedded Postgres under a running `up` or a job in a terminal: started again where it dies.

It is no child of ours, and nothing else would bring it back: Dagster only asks it again, for six seconds a time.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dagster_offload.postgres import is_running, stop_postgres

CHECK_EVERY_SECONDS = 2.0


@contextlib.contextmanager
def kept_alive(home: Path, revive: Callable[[], None]) -> Iterator[None]:
    """Look after it from a thread while the block works; it is left running."""
    over = threading.Event()

    def watch_until_over() -> None:
        while not over.wait(CHECK_EVERY_SECONDS / 2):
            if not is_running(home):
                revive()

    threading.Thread(target=watch_until_over, name="keep-postgres", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class KeptPostgres:
    """Looked after by `up`, which stops it at the end.

    `revive` starts it again and returns when it answers; that is left to a thread, as a recovery can take minutes.
    """

    def __init__(self, home: Path, revive: Callable[[], None], say: Callable[[str], None]) -> None:
        self._home = home
        self._revive = revive
        self._say = say
        self._reviving: threading.Thread | None = None
        self._look_at = time.monotonic()

    def look(self) -> None:
        """Called often; looks every 2 s."""
        if (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + CHECK_EVERY_SECONDS
        is_at_it = self._reviving is not None and self._reviving.is_alive()
        if is_at_it or is_running(self._home):
            return
        self._say(f"Postgres ended; starting it again. Log: {self._home / 'postgres' / 'server.log'}")
        self._reviving = threading.Thread(target=self._revive, name="revive-postgres", daemon=True)
        self._reviving.start()

    def stop(self) -> None:
        """Stop it, also while it is being started again: who starts it gives up when it goes."""
        stop_postgres(self._home)
        if self._reviving is not None:
            self._reviving.join(CHECK_EVERY_SECONDS)
            stop_postgres(self._home)
