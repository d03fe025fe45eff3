"""Dagster's daemon and webserver as `up` runs them: the same commands, which look less often whether anything changed.

`python -m dagster_offload.service.dagster_process SOCKET dagster-daemon run ...` (or `dagster-webserver ...`), where SOCKET is
that of the code server. Both commands ask the code server for its id every second, over a new connection. That is for code
servers that others replace. Ours belongs to the same `up`.
"""

import gc
import sys
import time
from pathlib import Path

# Imported modules are never garbage: do not scan them in each collection.
gc.disable()

# The only internal part. The contract test is tests/service/test_dagster_process.py.
from dagster._grpc import server_watcher  # noqa: E402

# A code server that died is back after a few seconds. Calls then go to the new one, also before its id is noticed.
WATCH_SECONDS = 15
# A command that starts before the code server would notice it only after WATCH_SECONDS.
START_SECONDS = 60.0


def main() -> None:
    """Run the command in the arguments until it is stopped. Ends in `SystemExit`."""
    socket_file, command = Path(sys.argv[1]), sys.argv[2]
    sys.argv = sys.argv[2:]
    if command == "dagster-daemon":
        from dagster._daemon.cli import main as run
    elif command == "dagster-webserver":
        from dagster_webserver.cli import main as run
    else:
        sys.exit(f"{command} is not a command of Dagster that `up` runs")
    server_watcher.WATCH_INTERVAL = WATCH_SECONDS
    gc.freeze()
    gc.enable()
    deadline = time.monotonic() + START_SECONDS
    while not socket_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run()


if __name__ == "__main__":
    main()
