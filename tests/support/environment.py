"""An environment without this machine's settings."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


@contextmanager
def without_settings(folder: Path) -> Iterator[None]:
    """Hide this machine's settings, `.env` file, home and proxies during the block, and undo what is set in it.

    `folder` is the working folder meanwhile, and has the default home.
    """
    before, working_folder = dict(os.environ), Path.cwd()
    for name in before:
        if name.startswith("OFFLOAD_") or name.upper() in PROXIES:
            del os.environ[name]
    os.environ["XDG_DATA_HOME"] = str(folder / "data")  # where Linux has the default home
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(working_folder)
        os.environ.clear()
        os.environ.update(before)
