"""Where the embedded server's socket lies: in the home, or in a private temporary folder where no socket fits there.

The choice is made by the door that starts the server and written down in the home, because the next door may have
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
    """Where the socket of this home's server is, or will be unless `make_socket_folder` decides otherwise."""
    note = _note(postgres)
    return Path(os.fsdecode(note.read_bytes())) if note.exists() else postgres / "socket"


def make_socket_folder(postgres: Path, account: Account) -> Path:
    """A folder only `account` can use, with room for the socket's name. Call it while no server lives."""
    inside = postgres / "socket"
    if _suits(inside):
        inside.mkdir(exist_ok=True)
        account.take_over(inside)
        _note(postgres).unlink(missing_ok=True)
        return inside
    outside = socket_folder(postgres)
    if outside == inside or not _suits(outside) or not _is_private(outside, account):
        outside = _temporary_folder(account)
        draft = _note(postgres).with_suffix(".new")
        draft.write_bytes(os.fsencode(outside))
        draft.replace(_note(postgres))
    return outside


def _note(postgres: Path) -> Path:
    return postgres / "socket_folder"


def _suits(folder: Path) -> bool:
    """Short enough for the kernel, and no list of hosts to libpq."""
    return len(os.fsencode(folder / SOCKET_NAME)) <= MAX_PATH_BYTES and "," not in str(folder)


def _is_private(folder: Path, account: Account) -> bool:
    try:
        info = folder.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == account.uid and stat.S_IMODE(info.st_mode) == 0o700


def _temporary_folder(account: Account) -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp makes a private folder in it
        if not Path(parent).is_dir() or not _suits(Path(parent, "offload-12345678")):
            continue
        folder = Path(tempfile.mkdtemp(prefix="offload-", dir=parent))
        if blocked_folder(folder, account) is None:
            account.take_over(folder)
            return folder
        folder.rmdir()
    raise LedgerUnavailable("OFFLOAD_HOME has too long a path for a socket, and so has TMPDIR: name a shorter one")
