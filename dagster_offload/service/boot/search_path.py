"""Where the service finds programs: Tesseract, and the programs of the owner that wake a machine or take records.

A service manager has a short PATH: launchd's leaves out Homebrew, for example. So the service gets that of the shell in which
it is installed.
"""

import os
import stat
from collections.abc import Collection


def search_path(of_shell: str, owners: Collection[int] | None = None) -> str:
    """The entries of PATH that mean the same in the service: absolute and without control characters.

    `owners`: for the service of another user, leave out folders that belong to none of these users (ids), or in which everybody
    can put a program. The shell of root may trust folders of others.
    """
    entries = [entry for entry in of_shell.split(os.pathsep) if os.path.isabs(entry) and entry.isprintable()]
    if owners is not None:
        entries = [entry for entry in entries if _is_safe(entry, owners)]
    return os.pathsep.join(dict.fromkeys(entries))


def _is_safe(folder: str, owners: Collection[int]) -> bool:
    try:
        found = os.stat(folder)
    except OSError:  # who creates it later is not known
        return False
    return found.st_uid in owners and not found.st_mode & stat.S_IWOTH
