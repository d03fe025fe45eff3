"""A home that was started once and is empty, to be copied.

A first start takes a second of processor time: Postgres' data folder, the ledger's tables and Dagster's are made. A copy takes
a fifth of it. `new_home` is for the tests of a first start.
"""

import atexit
import functools
import shutil
import subprocess
from pathlib import Path

from dagster_offload.defs.instance import create_tables
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.stages.graph import BUILT_IN
from tests.support.database import WITHOUT_FSYNC
from tests.support.short_folders import make_short_folder


def copy_started_home(home: Path) -> None:
    """Make this folder a home that was started once. It must not exist yet."""
    subprocess.run(["cp", "-a", str(_started_home()), str(home)], check=True)


@functools.cache
def _started_home() -> Path:
    """This process's home to copy, which is made at the first call."""
    home = make_short_folder()
    atexit.register(shutil.rmtree, home)
    url = ensure_embedded(home, options=WITHOUT_FSYNC)
    with Ledger(url) as ledger:
        migrate(ledger, BUILT_IN)
    create_tables(url)
    stop_postgres(home)
    (home / "postgres" / "place.json").unlink()  # a copy is not refused as one
    return home
