"""The embedded server's data folder: made once, checked at each start, with our own rules of who may connect."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, own_name
from dagster_offload.postgres.embedded.binaries import ENVIRONMENT, MAJOR_VERSION
from dagster_offload.postgres.embedded.paths import NAME, Paths
from dagster_offload.postgres.embedded.start_errors import complaint


def make_cluster(paths: Paths, account: Account, bin_folder: Path, lock_fd: int) -> None:
    """initdb beside the final place, then rename: killed at any moment, it leaves litter and no broken home.

    initdb inherits the home's lock, so a door that comes after a killed one waits until its initdb is gone, too.
    """
    for litter in paths.postgres.glob("data-new-*"):
        shutil.rmtree(litter)
    staging = Path(tempfile.mkdtemp(prefix="data-new-", dir=paths.postgres))
    account.take_over(staging)
    command = [str(bin_folder / "initdb"), "-D", str(staging / "data"), "-U", NAME, "--encoding=UTF8", "--locale=C"]
    # Postgres' own collation: the same order everywhere, and no index breaks when the system's libc is upgraded.
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=peer", "--auth-host=reject"]
    done = subprocess.run(  # noqa: S603
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        pass_fds=(lock_fd,),
        cwd="/",
        env=ENVIRONMENT,
        **account.spawn_options,
    )
    try:
        if done.returncode != 0:
            raise LedgerUnavailable(complaint(paths, account, done.stderr.splitlines()))
        (staging / "data").rename(paths.data)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # what is left is litter, and the next first start removes it


def check_major_version(paths: Paths) -> None:
    """Raises `LedgerUnavailable` unless the data folder was made by the PostgreSQL we bring."""
    try:
        found = (paths.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise LedgerUnavailable(
            f"{paths.data} is no Postgres data folder (no PG_VERSION): restore it, or move it away to begin anew"
        ) from None
    if found != str(MAJOR_VERSION):
        raise LedgerUnavailable(
            f"{paths.data} was made by PostgreSQL {found} and this release brings {MAJOR_VERSION}: dump it with the"
            " release of dagster-offload that made it, and restore it into a new OFFLOAD_HOME"
        )


def write_access_rules(paths: Paths) -> None:
    """Who may connect: the home's owner, by the kernel's word (peer), so that there is no password to keep.

    Outside the data folder and renewed at each start, so that an edited or older file locks nobody out or in.
    """
    rules = {
        paths.access_rules: f"local all {NAME} peer map=home\n",
        paths.user_names: f'home "{own_name()}" {NAME}\n',
    }
    for path, text in rules.items():
        draft = path.with_suffix(".new")
        draft.write_text(text)
        draft.chmod(0o644)  # the server's user reads it; nothing in it is secret
        draft.replace(path)
