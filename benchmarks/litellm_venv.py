"""LiteLLM's SDK in a separate venv in the benchmarks' cache, because the product does not need it."""

import subprocess
import sys
from pathlib import Path

from benchmarks.workspace import Workspace

REQUIREMENT = "litellm==1.110.2"


def litellm_python(workspace: Workspace) -> Path:
    """The interpreter of that venv. The first call installs it, which takes a minute."""
    venv = workspace.cache() / REQUIREMENT.replace("==", "-")
    python, is_made = venv / "bin" / "python", venv / "made"
    if not is_made.exists():
        workspace.report(f"installing {REQUIREMENT} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
        subprocess.run(pip, check=True)
        is_made.touch()
    return python
