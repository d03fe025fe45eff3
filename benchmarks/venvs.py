"""Virtual environments of their own for packages that the product does not need, kept in the benchmarks' cache."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.workspace import Workspace


def venv_python(
    workspace: Workspace, name: str, requirements: tuple[str, ...], environment: Mapping[str, str] | None = None
) -> Path:
    """The interpreter of a venv with `requirements`. The first call installs them; `environment` is for their builds.

    Raises `RuntimeError` with pip's last lines if they cannot be installed.
    """
    venv = workspace.cache() / name
    python, made = venv / "bin" / "python", venv / "made"
    wanted = "\n".join(requirements)
    if not made.exists() or made.read_text() != wanted:
        workspace.report(f"installing {', '.join(requirements)} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        installing = subprocess.run(
            pip, env=os.environ | (environment or {}), stderr=subprocess.PIPE, text=True, check=False
        )
        if installing.returncode:
            raise RuntimeError(f"{', '.join(requirements)} cannot be installed: {installing.stderr[-500:]}")
        made.write_text(wanted)
    return python
