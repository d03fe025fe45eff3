"""Whether the library is missing: one look at its folder only. It does not wait longer for a network drive that hangs."""

import os
from concurrent.futures import Future
from pathlib import Path

from dagster_offload.host.threads import start_in_daemon_thread
from dagster_offload.text.durations import duration

PATIENCE_SECONDS = 1.0
MOUNT_IT = "Mount it, or set OFFLOAD_LIBRARY (--library) to the folder of documents"

# The last look at each library. One that hangs is waited for again, so that looks at a dead mount do not pile up.
_looks: dict[Path, Future[str | None]] = {}


def why_missing(library: Path, patience: float = PATIENCE_SECONDS) -> str | None:
    """`cannot be listed: no such file or directory`; None if the library can be listed. Waits at most `patience` seconds."""
    look = _looks.get(library)
    if look is None or look.done():
        look = _looks[library] = start_in_daemon_thread(_look, library)
    try:
        return look.result(patience)
    except TimeoutError:
        return f"cannot be listed: no answer within {duration(patience)}; a disk that starts may need longer"


def reason_of(error: OSError) -> str:
    """Why a folder cannot be listed, in words of the system."""
    return (error.strerror or type(error).__name__).lower()


def try_to_list(library: Path | str) -> None:
    """Raise `OSError` if the library cannot be listed. Waits as long as its file system does."""
    with os.scandir(library) as entries:
        next(entries, None)  # the folder itself may still be in the cache


def _look(library: Path) -> str | None:
    try:
        try_to_list(library)
    except OSError as error:
        return f"cannot be listed: {reason_of(error)}"
    return None
