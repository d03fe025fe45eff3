"""The folder of the embedded server's socket: in the home, or a private temporary folder if the home's path is too long.

The first start makes a folder with a random name and stores it in the home. Later starts and all other processes read it
there, so the URL stays the same. A server removes the socket at its path when it ends. If its home was removed, it ends up to
a minute later, so a new home at that path needs a socket with another path.
"""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, blocked_folder

SOCKET_NAME = ".s.PGSQL.5432"
_PREFIX = "socket-"
MAX_PATH_BYTES = 100  # the kernel's limit is 108 on Linux and 104 on macOS


def socket_path(postgres: Path) -> Path:
    """The path of this home's socket, which exists while the server runs."""
    return socket_folder(postgres) / SOCKET_NAME


def socket_folder(postgres: Path) -> Path:
    """Return the folder of this home's socket. `make_socket_folder` may choose another one at the next start."""
    record = _record_file(postgres)
    # Without a record no server runs, or one that an older version started.
    return postgres / os.fsdecode(record.read_bytes()) if record.exists() else postgres / "socket"


def make_socket_folder(postgres: Path, account: Account) -> Path:
    """Return a folder that only `account` can use and whose path leaves room for the socket's name.

    It is the folder of the last start if that can still be used. Call it only while no server of this home runs. Raises
    `LedgerUnavailable` if every candidate path is too long.
    """
    if _record_file(postgres).exists():
        of_last_start = socket_folder(postgres)
        _make_again(of_last_start, account)
        if _is_private(of_last_start, account):
            return of_last_start
    for unused in (postgres / "socket", *postgres.glob(f"{_PREFIX}*")):
        shutil.rmtree(unused, ignore_errors=True)
    folder = _folder_inside(postgres, account) or _temporary_folder(account)
    draft = _record_file(postgres).with_suffix(".new")
    # Inside, only its name: a home can be renamed while its server runs.
    draft.write_bytes(os.fsencode(folder.name if folder.parent == postgres else folder))
    draft.replace(_record_file(postgres))
    return folder


def remove_temporary_folder(postgres: Path) -> None:
    """Remove the folder of the socket if it is not in the home, which may be removed now. The next start makes it again. Call it
    only while no server of this home runs."""
    folder = socket_folder(postgres)
    if folder.parent != postgres:
        with contextlib.suppress(OSError):  # something else is in it, or it was removed
            folder.rmdir()


def forget_socket_folder(postgres: Path) -> None:
    """Make the next start choose a new folder. Call it only while no server of this home runs."""
    _record_file(postgres).unlink(missing_ok=True)


def _record_file(postgres: Path) -> Path:
    return postgres / "socket_folder"


def _fits_a_socket(folder: Path) -> bool:
    """Whether the path is short enough for the kernel and has no comma, which libpq reads as a list of hosts."""
    return len(os.fsencode(folder / SOCKET_NAME)) <= MAX_PATH_BYTES and "," not in str(folder)


def _make_again(folder: Path, account: Account) -> None:
    """Make a folder that was removed, so that the URL stays the same."""
    with contextlib.suppress(OSError):  # it exists, or the temporary folder that it was in is gone
        folder.mkdir(mode=0o700)
        account.make_owner_of(folder)


def _is_private(folder: Path, account: Account) -> bool:
    try:
        info = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and stat.S_IMODE(info.st_mode) == 0o700


def _folder_inside(postgres: Path, account: Account) -> Path | None:
    if not _fits_a_socket(postgres / f"{_PREFIX}12345678"):
        return None
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=postgres))
    account.make_owner_of(folder)
    return folder


def _temporary_folder(account: Account) -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        if not Path(parent).is_dir() or not _fits_a_socket(Path(parent, "offload-12345678")):
            continue
        folder = Path(tempfile.mkdtemp(prefix="offload-", dir=parent))
        if blocked_folder(folder, account) is None:
            account.make_owner_of(folder)
            return folder
        folder.rmdir()
    raise LedgerUnavailable("the paths of OFFLOAD_HOME and TMPDIR are too long for a socket: choose a shorter one")
