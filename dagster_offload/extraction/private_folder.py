"""The child's TMPDIR: a folder that no other user can write to, on a disk with free space that is not mounted noexec.

Libraries that parse documents may write temporary files, or load code that they find below TMPDIR. Below the shared /tmp,
another user could read the ones and plant the other.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dagster_offload.errors import ExtractorUnavailable
from dagster_offload.host.ownership import me, why_unsafe_for_code
from dagster_offload.host.private_folders import PrivateFolder, remove_leftovers
from dagster_offload.text.system_errors import reason_of

NEEDED_BYTES = 32 * 1024**2
SYSTEM_FOLDERS = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - a private folder is made in it


@dataclass(frozen=True)
class CandidateFolder:
    """A folder that could hold the private folder. `danger` says why it is unsafe; it is "" for a safe folder."""

    folder: Path
    danger: str = ""
    runs_programs: bool = True
    free_bytes: int = NEEDED_BYTES


def make_private_folder(home: Path | None = None) -> PrivateFolder:
    """Create a folder with mode 0700 in TMPDIR, else in /tmp or /var/tmp, else in `home`. Leftovers there are removed.

    Prefers a disk with free space that is not mounted noexec. Otherwise any safe folder is used, because few files need
    these. Raises `ExtractorUnavailable` if no folder is safe.
    """
    named = [Path(os.environ["TMPDIR"])] if os.environ.get("TMPDIR") else []
    candidates = [*named, *SYSTEM_FOLDERS, *([home] if home is not None else [])]
    refusals = []
    for candidate in best_first(inspect_folder(folder) for folder in dict.fromkeys(candidates)):
        if candidate.danger:
            refusals.append(f"{candidate.folder}: {candidate.danger}")
            continue
        try:
            remove_leftovers(candidate.folder)
            return PrivateFolder(candidate.folder)
        except OSError as error:
            refusals.append(f"{candidate.folder}: {reason_of(error)}")
    raise ExtractorUnavailable(
        f"the extractor has no private folder ({'; '.join(refusals)}): set TMPDIR to a folder of your own"
    )


def best_first(candidates: Iterable[CandidateFolder]) -> list[CandidateFolder]:
    """Sort fully suitable folders first and unsafe ones last. Keeps the given order otherwise."""
    return sorted(
        candidates,
        key=lambda candidate: (
            bool(candidate.danger),
            not candidate.runs_programs,
            candidate.free_bytes < NEEDED_BYTES,
        ),
    )


def inspect_folder(folder: Path) -> CandidateFolder:
    """Inspect a folder. A folder that cannot be inspected counts as unsafe."""
    try:
        danger = why_unsafe_for_code(folder, me())
        disk = os.statvfs(folder)
    except OSError as error:
        return CandidateFolder(folder, danger=reason_of(error))
    return CandidateFolder(
        folder,
        danger=danger or "",
        # macOS has no such flag. There, loading the library fails instead.
        runs_programs=not disk.f_flag & getattr(os, "ST_NOEXEC", 0),
        free_bytes=disk.f_bavail * disk.f_frsize,
    )
