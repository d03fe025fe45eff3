"""The embedded server's data folder: created once and checked at each start, with our own access rules."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, own_name
from dagster_offload.postgres.embedded.binaries import MAJOR_VERSION
from dagster_offload.postgres.embedded.paths import NAME, Paths
from dagster_offload.postgres.embedded.start_errors import start_error_message


def make_cluster(paths: Paths, account: Account, bin_folder: Path, lock_fd: int) -> None:
    """Run initdb in a staging folder, then rename it. A kill at any moment leaves leftovers but no broken home.

    initdb inherits the home's lock. If the process that started it is killed, the next process waits until initdb has
    ended too. Raises `LedgerUnavailable` if initdb fails.
    """
    for leftover in paths.postgres.glob("data-new-*"):
        shutil.rmtree(leftover)
    staging = Path(tempfile.mkdtemp(prefix="data-new-", dir=paths.postgres))
    account.make_owner_of(staging)
    command = [str(bin_folder / "initdb"), "-D", str(staging / "data"), "-U", NAME, "--encoding=UTF8", "--locale=C"]
    # Postgres' built-in collation sorts the same everywhere, and a libc upgrade breaks no index.
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=peer", "--auth-host=reject"]
    done = account.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        pass_fds=(lock_fd,),
    )
    try:
        if done.returncode != 0:
            raise LedgerUnavailable(start_error_message(paths, account, done.stderr.splitlines()))
        (staging / "data").rename(paths.data)
    finally:
        shutil.rmtree(staging, ignore_errors=True)  # the next first start removes leftovers


def check_major_version(paths: Paths) -> None:
    """Raise `LedgerUnavailable` unless the data folder was created by the bundled PostgreSQL major version."""
    try:
        created_by = (paths.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise LedgerUnavailable(
            f"{paths.data} is not a Postgres data folder (it has no PG_VERSION): restore it, or move it elsewhere to start"
            " with an empty database"
        ) from None
    if created_by != str(MAJOR_VERSION):
        raise LedgerUnavailable(
            f"{paths.data} was created by PostgreSQL {created_by} and this release includes {MAJOR_VERSION}: dump it with the"
            " release of dagster-offload that created it, and restore it into a new OFFLOAD_HOME"
        )


def write_access_rules(paths: Paths) -> None:
    """Allow connections only for the home's owner. Peer authentication needs no stored password.

    The files are outside the data folder and are rewritten at each start, so edited or old rules never apply.
    """
    rules = {
        paths.access_rules: f"local all {NAME} peer map=home\n",
        paths.user_names: f'home "{own_name()}" {NAME}\n',
    }
    for path, text in rules.items():
        draft = path.with_suffix(".new")
        draft.write_text(text)
        draft.chmod(0o644)  # the server's user must read it; it holds no secret
        draft.replace(path)
