"""The folder of the embedded server's socket: in the home, or a private temporary folder if the home's path is too long.

The process that starts the server makes the choice and stores it in the home, because the next process may have
another TMPDIR.
"""

import os
import stat
import tempfile
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.embedded.accounts import Account, blocked_folder

SOCKET_NAME = ".s.PGSQL.5432"
MAX_PATH_BYTES = 100  # the kernel's limit is 108 on Linux and 104 on macOS


def socket_folder(postgres: Path) -> Path:
    """Return the folder of this home's socket. `make_socket_folder` may choose another one at the next start."""
    record = _record_file(postgres)
    return Path(os.fsdecode(record.read_bytes())) if record.exists() else postgres / "socket"


def make_socket_folder(postgres: Path, account: Account) -> Path:
    """Return a folder that only `account` can use and whose path leaves room for the socket's name.

    Call it only while no server runs. Raises `LedgerUnavailable` if every candidate path is too long.
    """
    inside = postgres / "socket"
    if _fits_a_socket(inside):
        inside.mkdir(exist_ok=True)
        account.make_owner_of(inside)
        _record_file(postgres).unlink(missing_ok=True)
        return inside
    outside = socket_folder(postgres)
    if outside == inside or not _fits_a_socket(outside) or not _is_private(outside, account):
        outside = _temporary_folder(account)
        draft = _record_file(postgres).with_suffix(".new")
        draft.write_bytes(os.fsencode(outside))
        draft.replace(_record_file(postgres))
    return outside


def forget_socket_folder(postgres: Path) -> None:
    """Make the next start choose a new folder outside the home, if it needs one. Call it only while no server runs."""
    _record_file(postgres).unlink(missing_ok=True)


def _record_file(postgres: Path) -> Path:
    return postgres / "socket_folder"


def _fits_a_socket(folder: Path) -> bool:
    """Whether the path is short enough for the kernel and has no comma, which libpq reads as a list of hosts."""
    return len(os.fsencode(folder / SOCKET_NAME)) <= MAX_PATH_BYTES and "," not in str(folder)


def _is_private(folder: Path, account: Account) -> bool:
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and stat.S_IMODE(info.st_mode) == 0o700


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
