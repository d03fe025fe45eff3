"""Work as another user. Needs root."""

import subprocess
import sys
from pathlib import Path

UNPRIVILEGED_UID = 65534


def as_unprivileged_user(imports: str, work: str, library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `work` as a user who may enter the folders above the library. `sys.argv[1]` is the library."""
    for folder in (library, *library.parents):
        if folder.stat().st_uid == 0 and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    become = f"os.setgroups([]); os.setgid({UNPRIVILEGED_UID}); os.setuid({UNPRIVILEGED_UID})"
    script = "\n".join(["import os, sys", "from pathlib import Path", imports, become, work])
    command = [sys.executable, "-c", script, str(library), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
