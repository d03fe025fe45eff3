"""Python programs that tests of the embedded server run as separate processes."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from dagster_offload.postgres import server_pid
from dagster_offload.postgres.embedded.locks import wait_until
from tests.support.patience import PATIENCE_SECONDS

IS_ROOT = os.geteuid() == 0


# Runs before the body of a program. It imports everything first, because another user may be unable to read the modules.
PRELUDE = """
import faulthandler, os, sys, time
faulthandler.dump_traceback_later(120)  # shows where a program hangs
from pathlib import Path
import psutil, psycopg
from dagster_offload.postgres import ensure_postgres, stop_postgres, is_running
from dagster_offload.postgres.embedded import binaries, server as embedded
from dagster_offload.settings import Settings
home = Path(sys.argv[1])
def ensure():
    return embedded.ensure_embedded(home, options={"fsync": "off"})
"""
AS_OTHER_USER = """
import pwd
person = pwd.getpwnam("daemon")
os.setgroups([]); os.setgid(person.pw_gid); os.setuid(person.pw_uid)
"""

RunProcess = Callable[..., "subprocess.Popen[str]"]


def checkpointer_of(home: Path) -> psutil.Process:
    """The checkpointer of the home's server. A process of Postgres takes its name some time after it was forked."""
    found: list[psutil.Process] = []

    def is_named() -> bool:
        found.clear()
        for child in psutil.Process(server_pid(home)).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # one that starts the server ends soon
                if "checkpointer" in " ".join(child.cmdline()):
                    found.append(child)
        return bool(found)

    assert wait_until(is_named, PATIENCE_SECONDS)
    return found[0]


def remove_home(home: Path) -> None:
    """Remove a home whose server runs. A file that the server writes meanwhile makes one attempt fail."""

    def is_removed() -> bool:
        shutil.rmtree(home, ignore_errors=True)
        return not home.exists()

    assert wait_until(is_removed, PATIENCE_SECONDS)


def copy_home(home: Path, target: Path) -> Path:
    """Copy a home as `cp -a` does."""
    shutil.copytree(home, target, symlinks=True)
    for folder, names, files in os.walk(home):
        for name in (".", *names, *files):
            of = Path(folder, name)
            info = of.lstat()
            os.chown(target / of.relative_to(home), info.st_uid, info.st_gid, follow_symlinks=False)
    return target
