"""Where the embedded server's socket lies: in the home, or in a private temporary folder where that path is too long.

The choice is made by the door that starts the server and written down in the home, because the next door may have
another TMPDIR.
"""

import os
import stat
import tempfile
from pathlib import Path

from dagster_offload.errors import LedgerUnavailable
from dagster_offload.postgres.accounts import Account, blocked_folder

SOCKET_NAME = ".s.PGSQL.5432"
MAX_PATH_BYTES = 100  # the kernel's limit is 108 on Linux and 104 on macOS


def socket_folder(postgres: Path) -> Path:
    """Where the socket of this home's server is, or will be unless `make_socket_folder` decides otherwise."""
    note = _note(postgres)
    return Path(os.fsdecode(note.read_bytes())) if note.exists() else postgres / "socket"


def make_socket_folder(postgres: Path, account: Account) -> Path:
    """A folder only `account` can use, with room for the socket's name. Call it while no server lives."""
    folder = socket_folder(postgres)
    if folder.is_relative_to(postgres) and _fits(postgres / "socket"):
        _note(postgres).unlink(missing_ok=True)
        folder = postgres / "socket"
        folder.mkdir(exist_ok=True)
        account.take_over(folder)
        return folder
    if folder.is_relative_to(postgres) or not _fits(folder) or not _is_private(folder, account):
        folder = _temporary_folder(account)
        note = _note(postgres)
        draft = note.with_suffix(".new")
        draft.write_bytes(os.fsencode(folder))
        draft.replace(note)
    return folder


def _note(postgres: Path) -> Path:
    return postgres / "socket_folder"


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET_NAME)) <= MAX_PATH_BYTES


def _is_private(folder: Path, account: Account) -> bool:
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and stat.S_IMODE(info.st_mode) == 0o700


def _temporary_folder(account: Account) -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        if not Path(parent).is_dir() or not _fits(Path(parent, "offload-12345678")):
            continue
        folder = Path(tempfile.mkdtemp(prefix="offload-", dir=parent))
        if blocked_folder(folder, account) is None:
            account.take_over(folder)
            return folder
        folder.rmdir()
    raise LedgerUnavailable("OFFLOAD_HOME is too long a path for a socket, and so is TMPDIR: name a shorter one")
