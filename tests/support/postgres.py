"""Python programs that tests of the embedded server start as separate processes."""

import os
import subprocess
from collections.abc import Callable

IS_ROOT = os.geteuid() == 0


# The beginning of each program. It imports everything first, because another user may not be able to read this interpreter.
PRELUDE = """
import faulthandler, os, sys, time
faulthandler.dump_traceback_later(120)  # a program that hangs shows where
from pathlib import Path
import psutil, psycopg
from dagster_offload.postgres import ensure_postgres, stop_postgres, is_running
from dagster_offload.postgres.embedded import binaries, server as embedded
from dagster_offload.settings import Settings
home = Path(sys.argv[1])
def ensure():
    return embedded.ensure_embedded(home, options={"fsync": "off"})
"""
AS_SOMEBODY_ELSE = """
import pwd
person = pwd.getpwnam("daemon")
os.setgroups([]); os.setgid(person.pw_gid); os.setuid(person.pw_uid)
"""

Door = Callable[..., "subprocess.Popen[str]"]
