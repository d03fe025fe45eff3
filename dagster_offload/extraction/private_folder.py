"""The child's own TMPDIR: a folder nobody else can write, on a disk that may run programs and has room.

kreuzberg unpacks its PDF library (8 MB) into a folder of a fixed name below TMPDIR and loads what lies there. Below the
shared /tmp that could be another user's library.
"""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dagster_offload.errors import ExtractorUnavailable
from dagster_offload.host.ownership import me, why_unsafe_for_code

NEEDED_BYTES = 32 * 1024**2
SYSTEM_FOLDERS = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - a private folder is made in it


@dataclass(frozen=True)
class Place:
    """A folder in which ours may be made, as it was found. `danger`: why it cannot be used at all; "" where it can."""

    folder: Path
    danger: str = ""
    runs_programs: bool = True
    free_bytes: int = NEEDED_BYTES


def make_private_folder(home: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """A new folder with mode 0700: in TMPDIR, else in /tmp or /var/tmp, else in the home.

    If none of them has room and runs programs, one that is safe will do: only PDF files need more than that.
    Raises `ExtractorUnavailable` where none is safe.
    """
    named = [Path(os.environ["TMPDIR"])] if os.environ.get("TMPDIR") else []
    candidates = [*named, *SYSTEM_FOLDERS, *([home] if home is not None else [])]
    refusals = []
    for place in best_first(look_at(folder) for folder in dict.fromkeys(candidates)):
        if place.danger:
            refusals.append(f"{place.folder}: {place.danger}")
            continue
        try:
            return tempfile.TemporaryDirectory(prefix="offload-", dir=place.folder, ignore_cleanup_errors=True)
        except OSError as error:
            refusals.append(f"{place.folder}: {(error.strerror or type(error).__name__).lower()}")
    raise ExtractorUnavailable(
        f"no private folder for the extractor ({'; '.join(refusals)}): set TMPDIR to a folder of your own"
    )


def best_first(places: Iterable[Place]) -> list[Place]:
    """In the order given, those that lack nothing before those that lack something."""
    return sorted(
        places, key=lambda place: (bool(place.danger), not place.runs_programs, place.free_bytes < NEEDED_BYTES)
    )


def look_at(folder: Path) -> Place:
    """The facts about a folder."""
    try:
        danger = why_unsafe_for_code(folder, me())
        disk = os.statvfs(folder)
    except OSError as error:
        return Place(folder, danger=(error.strerror or type(error).__name__).lower())
    return Place(
        folder,
        danger=danger or "",
        # macOS does not say; there the library's loading does.
        runs_programs=not disk.f_flag & getattr(os, "ST_NOEXEC", 0),
        free_bytes=disk.f_bavail * disk.f_frsize,
    )
