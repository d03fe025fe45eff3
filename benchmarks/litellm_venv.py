"""LiteLLM's SDK in a venv of its own under the benchmarks' cache: it is what people use, not what we need."""

import subprocess
import sys
from pathlib import Path

from benchmarks.ground import Ground

REQUIREMENT = "litellm==1.110.2"


def litellm_python(ground: Ground) -> Path:
    """The interpreter that has it; installed the first time, a minute."""
    venv = ground.cache() / REQUIREMENT.replace("==", "-")
    python, is_made = venv / "bin" / "python", venv / "made"
    if not is_made.exists():
        ground.tell(f"installing {REQUIREMENT} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
        subprocess.run(pip, check=True)
        is_made.touch()
    return python
