"""The account that runs the embedded server, and the owners of its folders.

Postgres refuses to run as root. If root starts it, it runs under an unprivileged account. Other users run it under their own.
Folders above the home are only inspected, to name the one that blocks access. They are never changed.
"""

import errno
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.host.ownership import me, others_may_write, user_name
from dagster_offload.host.python_process import environment_without_secrets

# The only unprivileged account that exists everywhere. initdb needs a user name, so an arbitrary uid does not work.
ROOT_RUNS_AS = "nobody"

# The programs get none of the caller's environment: no PG* variable, no API key in /proc/PID/environ.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

# Root's programs change the user in a process of their own. With its argument `user`, `subprocess` forks the caller and runs
# code in the child. In a process with threads, such as Dagster's code server, that child may crash.
_CHANGE_USER = (
    "import os, sys; _, uid, gid, *command = sys.argv; os.setgroups([]); os.setgid(int(gid)); os.setuid(int(uid)); "
    f"os.execve(command[0], command, {ENVIRONMENT!r})"
)


@dataclass(frozen=True)
class Account:
    """The operating system user that the server runs as. `is_other` is true if that is not the caller."""

    name: str
    uid: int
    gid: int
    is_other: bool

    @property
    def peer_name(self) -> str:
        """The name that libpq's `requirepeer` compares. A user id may have several names."""
        return pwd.getpwuid(self.uid).pw_name

    def run(self, command: Sequence[str | Path], **options: Any) -> "subprocess.CompletedProcess[Any]":
        """Run a program as this user, without supplementary groups and without the caller's environment.

        Options are those of `subprocess.run`. If another user's program cannot be started, its exit code is 1.
        """
        if not self.is_other:
            return subprocess.run(command, cwd="/", env=ENVIRONMENT, **options)  # noqa: S603
        changed = [sys.executable, "-I", "-S", "-c", _CHANGE_USER, str(self.uid), str(self.gid), *command]
        return subprocess.run(changed, cwd="/", env=environment_without_secrets(), **options)  # noqa: S603

    def make_owner_of(self, path: Path) -> None:
        """Give a folder to this user, with mode 0700."""
        path.chmod(0o700)
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account() -> Account:
    """Return the account to run the server as.

    Raises `LedgerUnavailable` if there is none, such as for a container's user id without a name.
    """
    uid = os.geteuid()
    try:
        entry = pwd.getpwnam(ROOT_RUNS_AS) if uid == 0 else pwd.getpwuid(uid)
    except KeyError:
        missing = f"there is no user {ROOT_RUNS_AS!r} to run it as" if uid == 0 else f"user id {uid} has no name"
        raise LedgerUnavailable(
            f"the embedded Postgres cannot run: {missing}; run as a user listed in /etc/passwd,"
            " or set OFFLOAD_POSTGRES_URL"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, is_other=uid == 0)


def own_name() -> str:
    """Return the caller's user name as peer authentication sees it."""
    return pwd.getpwuid(os.geteuid()).pw_name


def prepare_home(home: Path) -> None:
    """Create the home, or check that an existing one belongs to the caller and that other users cannot write to it.

    A new or empty folder gets mode 0700 (0711 for root, whose server must reach its data). A folder with contents
    keeps its mode, because it may serve other purposes too; only the `x` bits that the server needs are added.
    Raises `LedgerUnavailable`.
    """
    with explained(home):
        mode = 0o711 if os.geteuid() == 0 else 0o700
        _make_folders(home, mode)
        info = home.stat()
        if info.st_uid != os.geteuid():
            raise LedgerUnavailable(
                f"OFFLOAD_HOME {home} belongs to {user_name(info.st_uid)} and you are {user_name(os.geteuid())}:"
                " run as its owner, or choose a folder of your own"
            )
        if not any(home.iterdir()):
            home.chmod(mode)
        elif (reason := others_may_write(info, me())) is not None:
            raise LedgerUnavailable(f"OFFLOAD_HOME {home} {reason}: choose a folder that only you can write to")
        elif mode & ~info.st_mode & 0o011:
            home.chmod(stat.S_IMODE(info.st_mode) | 0o011)


def make_private(folder: Path, mode: int) -> None:
    """Create a folder with exactly this mode, regardless of the umask. An existing folder is not changed."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(mode)


def _make_folders(folder: Path, mode: int) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent, mode)
    make_private(folder, mode)


def blocked_folder(path: Path, account: Account) -> Path | None:
    """Return the uppermost folder above `path` that `account` cannot traverse, according to its mode."""
    for folder in reversed(path.resolve().parents):
        info = folder.stat()
        if account.uid == info.st_uid:
            needed = stat.S_IXUSR
        elif account.gid == info.st_gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not info.st_mode & needed:
            return folder
    return None


_ADVICE = {
    errno.ENOSPC: "has no space left on its disk: free some space, or choose a folder on another disk",
    errno.EDQUOT: "exceeds your disk quota: free some space, or choose a folder on another disk",
    errno.EROFS: "is on a read-only file system: choose a writable folder",
    errno.EACCES: "is not readable and writable for you: choose a folder of your own",
    errno.EPERM: "cannot be changed by you: choose a folder of your own",
    errno.ENOTDIR: "is a file, or is below one: choose a folder",
    errno.EEXIST: "is a file: choose a folder",
    errno.ENAMETOOLONG: "is too long: choose a shorter path",
}


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn an `OSError` into a `LedgerUnavailable` with one line that says what to do about the home."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, f"cannot be used ({error.strerror or error})")
        where = f" (at {error.filename})" if error.filename and Path(str(error.filename)) != home else ""
        raise LedgerUnavailable(f"OFFLOAD_HOME {home} {advice}{where}") from error
