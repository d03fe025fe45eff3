"""The health check of the image: `python -m dagster_offload.service.ui.health_check` ends with 0 while `up` runs and its web
server, if it runs, answers.

The web server ends while no page is open, and every connection starts it again (`server.py`). So it is asked only while it
runs: otherwise the check itself would keep it running. Only the standard library is imported, because the check runs every
30 seconds.
"""

import fcntl
import http.client
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

ANSWER_SECONDS = 5.0
# As in service/home.py, service/processes.py and service/ui/access.py, which import much more.
LOCK_NAME = "up.lock"
UI_PROGRAM = "dagster-webserver"
HEALTH_PATH = "/healthz"


def main() -> None:
    """End with 0, or with the reason why the UI of the home OFFLOAD_HOME cannot be opened."""
    sys.exit(_why_unhealthy(Path(os.environ["OFFLOAD_HOME"])))


def _why_unhealthy(home: Path) -> str | None:
    try:
        with (home / LOCK_NAME).open("rb") as lock:
            if not _is_held(lock.fileno()):
                return "`up` does not run"
            address = json.loads(lock.read())["address"]
    except (OSError, ValueError, KeyError) as error:
        return f"{home / LOCK_NAME}: {error}"
    if not address:
        return "`up` starts"
    return _why_no_answer(address) if _is_web_server_running(home) else None


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _is_web_server_running(home: Path) -> bool:
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = [os.fsdecode(word) for word in command.read_bytes().split(b"\0")]
        except OSError:  # it has ended, or belongs to another user
            continue
        if UI_PROGRAM in words and _follows(words, "--home", os.path.realpath(home)):
            return True
    return False


def _follows(words: Sequence[str], option: str, path: str) -> bool:
    return any(word == option and os.path.realpath(value) == path for word, value in itertools.pairwise(words))


def _why_no_answer(address: str) -> str | None:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", parts.path + HEALTH_PATH)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"the UI does not answer: {error}"
    finally:
        connection.close()
    return None if status == http.client.OK else f"the UI answers with status {status}"


if __name__ == "__main__":
    main()
