"""The folder of the backups that this product makes by itself: their names, which of them are kept, and the folder.

A name has the beginning of the ledger's id, so that ledgers may share a folder. Older versions made names without one. In a
folder that a person chose, such a backup may be of any ledger: it is neither counted nor removed.
"""

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from dagster_offload.errors import BackupError
from dagster_offload.ledger.archive.file import DRAFT_SUFFIX
from dagster_offload.settings import Settings

OLD_DRAFT_SECONDS = 24 * 3600.0
_MARK_LENGTH = 8
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(offload|before-step-\d{4})(?:-([0-9a-f]{8}))?-(\d{8}T\d{6}Z)(-[0-9a-f]{6})?\.backup")
SCHEDULED, BEFORE_MIGRATION = "offload", "before-step"


@dataclass(frozen=True)
class Owner:
    """Whose backups count. `mark` begins the ledger's id; None for a ledger that is too old to have one.

    `has_own_folder`: no other ledger has the folder, so backups without a mark are of this one, too.
    """

    mark: str | None
    has_own_folder: bool

    def has_made(self, mark: str | None) -> bool:
        """Whether a backup with this mark in its name is one of this ledger."""
        return self.has_own_folder if mark is None else mark == self.mark


def owner_of(settings: Settings, ledger_id: UUID | None) -> Owner:
    """The ledger with this id as the owner of backups in the folder of these settings."""
    return Owner(None if ledger_id is None else ledger_id.hex[:_MARK_LENGTH], settings.backup.dir is None)


def scheduled_name(owner: Owner, now: datetime) -> str:
    """The name of a scheduled backup."""
    return f"{SCHEDULED}{_marked(owner)}-{now:{_STAMP}}.backup"


def name_before_step(step: int, owner: Owner, now: datetime) -> str:
    """The name of a backup before a migration to this step. No two calls give the same name, not even in one second."""
    return f"{BEFORE_MIGRATION}-{step:04}{_marked(owner)}-{now:{_STAMP}}-{secrets.token_hex(3)}.backup"


def _marked(owner: Owner) -> str:
    return "" if owner.mark is None else f"-{owner.mark}"


def made_at(name: str, kind: str, owner: Owner) -> datetime | None:
    """When the backup with this name was made; None if it is not a backup of this kind and this owner."""
    found = _NAME.fullmatch(name)
    if found is None or not found[1].startswith(kind) or not owner.has_made(found[2]):
        return None
    try:
        return datetime.strptime(found[3], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def expired(names: Iterable[str], keep: int, owner: Owner, now: datetime, kind: str = SCHEDULED) -> list[str]:
    """The owner's backups of one kind to remove, so that the newest `keep` are left. Other files are never in it.

    One from the future, made while the clock was wrong, is not counted: new backups would be the oldest.
    """
    made = [(moment, name) for name in names if (moment := made_at(name, kind, owner)) is not None and moment <= now]
    return [name for _, name in sorted(made)[:-keep]]


def names_in(folder: Path) -> Sequence[str]:
    """The names of all files in the folder."""
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # missing or unreadable: the backup itself reports it
        return []


def refuse_library(file: Path, library: Path | None) -> None:
    """Raise `BackupError` for a backup inside the library: it would become a document."""
    resolved = file.resolve()
    # Not by name: on a case-insensitive disk a folder has many.
    if library is not None and any(_is_same(folder, library) for folder in (resolved, *resolved.parents)):
        raise BackupError(f"{file} is inside the library {library}: choose a folder outside it")


def _is_same(folder: Path, other: Path) -> bool:
    try:
        return folder.samefile(other)
    except OSError:  # one of them does not exist
        return False


def prepare(settings: Settings) -> Path:
    """The folder for backups, ready to be written to. Raises `BackupError`.

    Creates only our own folder, which only its owner can enter. A missing one that a person named may be unmounted.
    """
    folder = settings.backup_folder
    refuse_library(folder, settings.library)
    if settings.backup.dir is None:
        try:
            settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            _make_private(folder)
        except OSError as error:
            raise BackupError(f"{folder} cannot be created: {error.strerror}") from error
    elif not folder.is_dir():
        raise BackupError(f"OFFLOAD_BACKUP_DIR {folder} does not exist: create it, or mount its disk")
    return folder


def _make_private(folder: Path) -> None:
    """A folder that an older version or a copy left open to others. One behind a link is its owner's own choice."""
    status = folder.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and status.st_mode & 0o077:
        folder.chmod(0o700)


def remove_expired(folder: Path, keep: int, owner: Owner, kind: str) -> None:
    """Remove the owner's backups over the number to keep, and what a killed process left of a file."""
    for name in expired(own_names(folder), keep, owner, datetime.now(UTC), kind):
        (folder / name).unlink(missing_ok=True)
    for name in names_in(folder):
        draft = folder / name
        if name.startswith(f".{kind}") and name.endswith(DRAFT_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > OLD_DRAFT_SECONDS:
                    draft.unlink()


def own_names(folder: Path) -> Sequence[str]:
    """The names of our files: those of others could make our backups the oldest, or look like a new one.

    All names if none is ours: a network file system may give what we write to another owner.
    """
    names = names_in(folder)
    return [name for name in names if _is_own(folder / name)] or names


def _is_own(file: Path) -> bool:
    try:
        status = file.lstat()
    except OSError:  # removed meanwhile
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
