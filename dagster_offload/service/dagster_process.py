"""Dagster's daemon and webserver as `up` runs them: the same commands, as copies of the process that has imported everything.

The prefork server forks them, so they share the memory of the imports (`prefork.py`); without one, Python starts as usual.
Both commands ask the code server for its id every second, over a new connection. That is for code servers that others
replace. Ours belongs to the same `up`, so they ask less often.
"""

import gc
import os
import sys
import time
from pathlib import Path

# The only internal part. The contract test is tests/service/test_dagster_process.py.
from dagster._grpc import server_watcher

# A code server that died is back after a few seconds. Calls then go to the new one, also before its id is noticed.
WATCH_SECONDS = 15
# A command that starts before the code server would notice it only after WATCH_SECONDS.
START_SECONDS = 60.0


def main() -> None:
    """Run a command until it is stopped. Ends in `SystemExit`.

    Arguments: the mark of `prefork_command`, the code server's socket, the folder for DAGSTER_HOME, the command.
    """
    _, _, code_socket, os.environ["DAGSTER_HOME"], command, *_ = sys.argv
    sys.argv = sys.argv[4:]
    if command == "dagster-daemon":
        from dagster._daemon.cli import main as run
    elif command == "dagster-webserver":
        from dagster_offload.service.ui.server import main as run
    else:
        sys.exit(f"{command} is not a command of Dagster that `up` runs")
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
