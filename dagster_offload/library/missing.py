"""Whether the library is missing: one look at its folder only. It does not wait longer for a network drive that hangs."""

import os
from concurrent.futures import Future
from pathlib import Path

from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.text.durations import duration
from dagster_offload.text.system_errors import reason_of

PATIENCE_SECONDS = 1.0
MOUNT_IT = "Mount it, or set OFFLOAD_LIBRARY (--library) to the folder of documents"

# The last look at each library. One that hangs is waited for again, so that looks at a dead mount do not pile up.
_looks: dict[Path, Future[OSError | None]] = {}


def why_missing(library: Path, patience: float = PATIENCE_SECONDS) -> str | None:
    """`cannot be listed: no such file or directory`; None if the library can be listed. Waits at most `patience` seconds."""
    try:
        error = _look_within(patience, library)
    except TimeoutError:
        return f"cannot be listed: no answer within {duration(patience)}; a disk that starts may need longer"
    return None if error is None else f"cannot be listed: {reason_of(error)}"


def is_no_folder(library: Path) -> bool:
    """Whether the library is certainly no folder: it is not there, or it is a file. One that hangs may be a folder. Waits at
    most a second."""
    try:
        return isinstance(_look_within(PATIENCE_SECONDS, library), FileNotFoundError | NotADirectoryError)
    except TimeoutError:
        return False


def _look_within(patience: float, library: Path) -> OSError | None:
    """Why the library cannot be listed; None if it can. Raises `TimeoutError`."""
    look = _looks.get(library)
    if look is None or look.done():
        look = _looks[library] = start_in_daemon_thread(_look, library)
    return look.result(patience)


def try_to_list(library: Path | str) -> None:
    """Raise `OSError` if the library cannot be listed. Waits as long as its file system does."""
    with os.scandir(library) as entries:
        next(entries, None)  # the folder itself may still be in the cache


def _look(library: Path) -> OSError | None:
    try:
        try_to_list(library)
    except OSError as error:
        return error
    return None
