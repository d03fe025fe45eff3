"""Whether the library is missing: one look at its folder only. It does not wait longer for a network drive that hangs."""

import os
from concurrent.futures import Future
from pathlib import Path

from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.text.durations import duration
from dagster_offload.text.system_errors import reason_of

PATIENCE_SECONDS = 1.0
MOUNT_IT = "Mount it, or set library.path (OFFLOAD_LIBRARY) to the folder of documents"

# The last look at each library. One that hangs is waited for again, so that looks at a dead mount do not pile up.
_looks: dict[Path, Future[OSError | bool]] = {}


def why_missing(library: Path, patience: float = PATIENCE_SECONDS) -> str | None:
    """`cannot be listed: no such file or directory`; None if the library can be listed. Waits at most `patience` seconds."""
    try:
        found = _look_within(patience, library)
    except TimeoutError:
        return f"cannot be listed: no answer within {duration(patience)}; a disk that starts may need longer"
    return f"cannot be listed: {reason_of(found)}" if isinstance(found, OSError) else None


def is_no_folder(library: Path) -> bool:
    """Whether the library is certainly no folder: it is not there, or it is a file. One that hangs may be a folder. Waits at
    most a second."""
    try:
        return isinstance(_look_within(PATIENCE_SECONDS, library), FileNotFoundError | NotADirectoryError)
    except TimeoutError:
        return False


def is_empty(library: Path) -> bool:
    """Whether the library certainly is a folder without any entry, as the place of a disk that is not mounted. Waits at most a
    second."""
    try:
        return _look_within(PATIENCE_SECONDS, library) is False
    except TimeoutError:
        return False


def _look_within(patience: float, library: Path) -> OSError | bool:
    """Whether the library has any entry, or why it cannot be listed. Raises `TimeoutError`."""
    look = _looks.get(library)
    if look is None or look.done():
        look = _looks[library] = start_in_daemon_thread(_look, library)
    return look.result(patience)


def try_to_list(library: Path | str) -> bool:
    """Whether the library has any entry. Waits as long as its file system does. Raises `OSError` if it cannot be listed."""
    with os.scandir(library) as entries:
        return next(entries, None) is not None  # the folder itself may still be in the cache


def _look(library: Path) -> OSError | bool:
    try:
        return try_to_list(library)
    except OSError as error:
        return error
