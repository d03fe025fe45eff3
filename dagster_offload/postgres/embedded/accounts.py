"""Who runs the embedded server, and whom its folders belong to.

Postgres refuses to run as root, so root starts it as `nobody`; everybody else runs it as themselves. Folders above the
home are somebody else's: they are looked at to name the one that is in the way, and never changed.
"""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.host.ownership import me, others_may_write, user_name

ROOT_RUNS_AS = "nobody"  # the one unprivileged account that exists everywhere; initdb wants a name, so no made-up uid


@dataclass(frozen=True)
class Account:
    """The operating system's user the server runs as; `is_other` when that is not the caller."""

    name: str
    uid: int
    gid: int
    is_other: bool

    @property
    def peer_name(self) -> str:
        """Its name as libpq's `requirepeer` compares it: a user id may have several names."""
        return pwd.getpwuid(self.uid).pw_name

    @property
    def spawn_options(self) -> dict[str, Any]:
        """Arguments for `subprocess` that make a child this user, in no other group."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}

    def take_over(self, path: Path) -> None:
        """Give a folder to this user, readable by nobody else."""
        path.chmod(0o700)
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account() -> Account:
    """Raises `LedgerUnavailable` where no account fits (a container's user id without a name)."""
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
    """The caller's user name, as peer authentication will see it."""
    return pwd.getpwuid(os.geteuid()).pw_name


def prepare_home(home: Path) -> None:
    """Make the home, or check one that is there: ours, and with no way in for other users.

    A new or empty folder gets 0700 (0711 for root, whose server must reach its data). A folder that already holds
    something keeps its mode, because it may be more than our home; only the `x` the server needs is added.
    Raises `LedgerUnavailable`.
    """
    with explained(home):
        mode = 0o711 if os.geteuid() == 0 else 0o700
        _make_folders(home, mode)
        info = home.stat()
        if info.st_uid != os.geteuid():
            raise LedgerUnavailable(
                f"OFFLOAD_HOME {home} belongs to {user_name(info.st_uid)} and you are {user_name(os.geteuid())}:"
                " run as its owner, or name a folder of your own"
            )
        if not any(home.iterdir()):
            home.chmod(mode)
        elif (reason := others_may_write(info, me())) is not None:
            raise LedgerUnavailable(f"OFFLOAD_HOME {home} {reason}: name a folder of its own")
        elif mode & ~info.st_mode & 0o011:
            home.chmod(stat.S_IMODE(info.st_mode) | 0o011)


def make_private(folder: Path, mode: int) -> None:
    """Make a folder of ours with exactly this mode, whatever the umask; no change where it is there."""
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
    """The uppermost folder above `path` that `account` cannot walk through, judged by its mode."""
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
    errno.ENOSPC: "no space is left on its disk: free some, or name a folder on another disk",
    errno.EDQUOT: "your disk quota is used up: free some space, or name a folder on another disk",
    errno.EROFS: "lies on a read-only file system: name a folder that can be written",
    errno.EACCES: "may not be read and written by you: name a folder of your own",
    errno.EPERM: "may not be changed by you: name a folder of your own",
    errno.ENOTDIR: "is a file, or lies under one: name a folder",
    errno.EEXIST: "is a file: name a folder",
    errno.ENAMETOOLONG: "is too long a path: name a shorter one",
}


@contextmanager
def explained(home: Path) -> Iterator[None]:
    """Turn the file system's refusal into one line that says what to do about the home."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, f"cannot be used ({error.strerror or error})")
        where = f" (at {error.filename})" if error.filename and Path(str(error.filename)) != home else ""
        raise LedgerUnavailable(f"OFFLOAD_HOME {home} {advice}{where}") from error
