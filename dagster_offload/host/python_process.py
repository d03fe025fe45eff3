"""How this project starts Python: the working folder is never on the path.

For users who need PYTHONPATH: every process we start gets its absolute folders, so all of them find what the first one
finds. Empty and relative entries are dropped, because they mean the working folder, which may belong to anybody.
"""

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).parents[2])


def python_command(*arguments: str) -> tuple[str, ...]:
    """The argument vector of this Python; `-P` keeps the working folder (and a script's folder) off the path."""
    return (sys.executable, "-P", *arguments)


def python_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """`environment` (ours, where none is given) for a process that is Python or starts it, as Dagster's commands do."""
    found = dict(os.environ if environment is None else environment)
    paths = [path for path in found.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(path)]
    if _PACKAGE_PARENT not in (*paths, *site.getsitepackages()):  # a checkout that is not installed
        paths.append(_PACKAGE_PARENT)
    if paths:
        found["PYTHONPATH"] = os.pathsep.join(paths)
    found["PYTHONSAFEPATH"] = "1"
    return found
