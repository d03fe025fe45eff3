"""Files that a cloud service has not downloaded. Opening one would start its download, so they are recognized without.

iCloud leaves `.name.icloud` in place of `name` (up to macOS 13), or keeps the name and sets a flag (from macOS 14).
"""

import os
from pathlib import Path

from dagster_offload.library.handles import stat_file
from dagster_offload.library.left_out import Kind, LeftOut

NOT_DOWNLOADED = LeftOut(
    Kind.NOT_DOWNLOADED,
    "it is in iCloud and not downloaded",
    "download it in Finder, then scan again; a document that was read before keeps its record",
)

# Whether a file that exists may have no bytes on this machine. Only macOS has such files.
HAS_DATALESS_FILES = hasattr(os.stat_result, "st_flags")
_DATALESS_FLAG = 0x40000000  # SF_DATALESS, see chflags(2) of macOS


def downloaded_path(path: str) -> str | None:
    """Return the path of the file for which the placeholder `path` stands, or None if this is no placeholder."""
    if not path.endswith(".icloud"):  # nearly every path, and a library may have 100,000
        return None
    folder, slash, name = path.rpartition("/")
    if not name.startswith(".") or len(name) <= len("..icloud"):
        return None
    return f"{folder}{slash}{name[1 : -len('.icloud')]}"


def is_dataless(status: os.stat_result) -> bool:
    """Whether the bytes of the file are not on this machine. Only macOS reports this."""
    return bool(getattr(status, "st_flags", 0) & _DATALESS_FLAG)


def is_not_downloaded(library: Path, key: str) -> bool:
    """Whether the document's file is known to be in the cloud only."""
    folder, slash, name = key.rpartition("/")
    try:
        return is_dataless(stat_file(library, key))
    except OSError:
        pass
    try:
        stat_file(library, f"{folder}{slash}.{name}.icloud")
    except OSError:
        return False
    return True
