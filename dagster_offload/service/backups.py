"""The backups that `up` makes by itself: on a schedule, and before it migrates an older ledger."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from dagster_offload.errors import BackupError, LedgerUnavailable, OffloadError
from dagster_offload.ledger.archive import outcomes
from dagster_offload.ledger.archive.backup import cancelled_by, write_backup
from dagster_offload.ledger.archive.file import DRAFT_SUFFIX
from dagster_offload.ledger.core import migrate
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.opening import reach_ledger
from dagster_offload.ledger.core.workers import host_name
from dagster_offload.settings import Settings

CHECK_EVERY_SECONDS = 30.0
RETRY_AFTER = timedelta(minutes=10)
OLD_DRAFT_SECONDS = 24 * 3600.0
STOP_SECONDS = 2.0
_STAMP = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(offload|before-step-\d{4})-(\d{8}T\d{6}Z)\.backup")
SCHEDULED, BEFORE_MIGRATION = "offload", "before-step"

Say = Callable[[str], None]


def is_due(names: Iterable[str], every: timedelta, now: datetime, failed_at: datetime | None = None) -> bool:
    """Whether a scheduled backup is due, by the names of the files that exist. A file from the future does not count.

    `failed_at`: when the last try of this process failed.
    """
    if failed_at is not None and now < failed_at + RETRY_AFTER:
        return False
    made = [moment for name in names if (moment := _made_at(name, SCHEDULED)) is not None and moment <= now]
    return not made or max(made) + every <= now


def expired(names: Iterable[str], keep: int, kind: str = SCHEDULED) -> list[str]:
    """The backups of one kind to remove, so that the newest `keep` are left. Other files are never in it."""
    made = sorted((moment, name) for name in names if (moment := _made_at(name, kind)) is not None)
    return [name for _, name in made[:-keep]]


def _made_at(name: str, kind: str) -> datetime | None:
    found = _NAME.fullmatch(name)
    if found is None or not found[1].startswith(kind):
        return None
    try:
        return datetime.strptime(found[2], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


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


class ScheduledBackups:
    """Makes a backup whenever one is due, in a thread. A failure is recorded in the ledger and tried again."""

    def __init__(self, settings: Settings, ledger: Ledger, say: Say) -> None:
        self._settings = settings
        self._ledger = ledger
        self._say = say
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_check = time.monotonic()
        self._failed_at: datetime | None = None

    def check(self) -> None:
        """Start a backup if one is due. Call this often: it checks at most every 30 s."""
        every = self._settings.backup.every
        if every is None or time.monotonic() < self._next_check or self.is_running:
            return
        self._next_check = time.monotonic() + CHECK_EVERY_SECONDS
        now = datetime.now(UTC)
        if is_due(_names(self._settings.backup_folder), every, now, self._failed_at):
            self._thread = threading.Thread(target=self._run, name="backup", daemon=True)
            self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether a backup is being written."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Cancel a backup that is being written. Nothing is left of it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        folder = self._settings.backup_folder
        place = f"{host_name()}:{folder}"
        try:
            file = self._write(folder)
        except (OffloadError, psycopg.Error, OSError) as error:
            if self._over.is_set():
                return
            self._failed_at = datetime.now(UTC)
            reason = str(error).strip().splitlines()[0]
            self._say(f"The scheduled backup failed: {reason}")
            with contextlib.suppress(LedgerUnavailable):  # said above; the next try records its own outcome
                self._ledger.run(outcomes.record_failure, place, reason)
        else:
            with contextlib.suppress(LedgerUnavailable):  # the file is there; `is_due` looks at the files only
                self._ledger.run(outcomes.record_success, place, file.name, file.stat().st_size)

    def _write(self, folder: Path) -> Path:
        file = _prepared(self._settings, f"{SCHEDULED}-{datetime.now(UTC):{_STAMP}}.backup")
        write_backup(self._ledger, file, on_progress=cancelled_by(self._over.is_set))
        _remove_expired(folder, self._settings.backup.keep, SCHEDULED)
        return file


def back_up_before_migration(settings: Settings, say: Say) -> Path | None:
    """Make a backup if this version is about to migrate the ledger. Returns the file, or None if nothing will change.

    Raises `LedgerUnavailable` if the backup cannot be written: the ledger is then not migrated.
    """
    with reach_ledger(settings) as ledger:
        # Not `Ledger.run`: a ledger that does not exist yet, or an old one, has no table for receipts.
        with ledger.transaction() as cur:
            if not migrate.is_older(cur, ledger.schema):
                return None
            step, newest = migrate.current_step(cur, ledger.schema), migrate.newest_step()
        try:
            file = _prepared(settings, f"{BEFORE_MIGRATION}-{newest:04}-{datetime.now(UTC):{_STAMP}}.backup")
            write_backup(ledger, file)
        except BackupError as error:
            raise LedgerUnavailable(
                f"this version changes the ledger (schema step {step} to {newest}), and the backup before that failed: "
                f"{error}. Free some space there, or set OFFLOAD_BACKUP_DIR to a folder on another disk"
            ) from error
    say(f"This version changes the ledger (schema step {step} to {newest}). A backup from before: {file}")
    _remove_expired(settings.backup_folder, settings.backup.keep, BEFORE_MIGRATION)
    return file


def _prepared(settings: Settings, name: str) -> Path:
    """The path of a new backup. Creates only our own folder: a missing one that a person named may be unmounted."""
    folder = settings.backup_folder
    refuse_library(folder, settings.library)
    if settings.backup.dir is None:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BackupError(f"{folder} cannot be created: {error.strerror}") from error
    elif not folder.is_dir():
        raise BackupError(f"OFFLOAD_BACKUP_DIR {folder} does not exist: create it, or mount its disk")
    return folder / name


def _names(folder: Path) -> Sequence[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:  # missing or unreadable: the backup itself reports it
        return []


def _remove_expired(folder: Path, keep: int, kind: str) -> None:
    """Remove backups over the number to keep, and what a killed process left of a file."""
    names = _names(folder)
    for name in expired(names, keep, kind):
        (folder / name).unlink(missing_ok=True)
    for name in names:
        draft = folder / name
        if name.startswith(f".{kind}") and name.endswith(DRAFT_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > OLD_DRAFT_SECONDS:
                    draft.unlink()
