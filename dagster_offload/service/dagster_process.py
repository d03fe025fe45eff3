"""Dagster's daemon and webserver as `up` runs them: the same commands, as copies of the process that has imported everything.

The prefork server forks them, so they share the memory of the imports (`prefork.py`); without one, Python starts as usual.
Both commands ask the code server for its id every second, over a new connection. That is for code servers that others
replace. Ours belongs to the same `up`, so they ask less often. The daemon looks for backfills more often than Dagster's
every 30 seconds, so a backfill starts, and is shown as ended or cancelled, after a few seconds. Both create runs, and store the
events that Dagster plans for one in batches.
"""

import gc
import os
import sys
import time
from pathlib import Path
from typing import Self

# The internal parts are this module and `dagster._daemon.controller`. The contract test is tests/service/test_dagster_process.py.
from dagster._grpc import server_watcher

# A code server that died is back after a few seconds. Calls then go to the new one, also before its id is noticed.
WATCH_SECONDS = 15
# A command that starts before the code server would notice it only after WATCH_SECONDS.
START_SECONDS = 60.0
# Between two looks for backfills: Dagster's interval is the longest. A large backfill that waits for the slot is looked at
# all night and each look takes seconds, so the daemon may use this share of a core and no more.
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 30.0
DAEMON_SHARE = 0.1
# For a run over many documents, Dagster plans an event for each document and stage. Its own setting.
BATCH_SIZE = ("DAGSTER_EVENT_BATCH_SIZE", "200")


class BackfillInterval(float):
    """The interval of Dagster's daemon for backfills. Dagster subtracts the duration of a look from it, and waits that long."""

    def __new__(cls) -> Self:
        return super().__new__(cls, LONGEST_PAUSE_SECONDS)

    def __init__(self) -> None:
        self._used_before: float | None = None

    def __sub__(self, _seconds: float) -> float:
        """The pause before the next look, in seconds. Other threads do the work of a look, so its duration says nothing."""
        used, before = time.process_time(), self._used_before
        self._used_before = used
        return pause_seconds(0.0 if before is None else used - before)


def pause_seconds(used: float) -> float:
    """The pause before the next look for backfills. `used`: the daemon's processor time since the last one, in seconds."""
    return min(max(SHORTEST_PAUSE_SECONDS, used / DAEMON_SHARE), LONGEST_PAUSE_SECONDS)


def main() -> None:
    """Run a command until it is stopped. Ends in `SystemExit`.

    Arguments: the mark of `prefork_command`, the code server's socket, the folder for DAGSTER_HOME, the command.
    """
    _, _, code_socket, os.environ["DAGSTER_HOME"], command, *_ = sys.argv
    sys.argv = sys.argv[4:]
    if command == "dagster-daemon":
        from dagster._daemon import controller
        from dagster._daemon.cli import main as run

        controller.DEFAULT_DAEMON_INTERVAL_SECONDS = BackfillInterval()  # type: ignore[assignment]
    elif command == "dagster-webserver":
        from dagster_offload.service.ui.server import main as run
    else:
        sys.exit(f"{command} is not a command of Dagster that `up` runs")
    os.environ.setdefault(*BATCH_SIZE)
    server_watcher.WATCH_INTERVAL = WATCH_SECONDS
    gc.freeze()  # imported modules are never garbage
    _show_name(command)
    deadline = time.monotonic() + START_SECONDS
    while not Path(code_socket).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run()


def _show_name(name: str) -> None:
    """Let `top` show the command. A forked process has the arguments of the code server."""
    comm = Path("/proc/self/comm")
    if comm.exists():
        comm.write_text(name[:15])  # proc(5): the longest name
