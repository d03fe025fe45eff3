"""The backups that `up` makes on a schedule."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from dagster_offload.errors import LedgerUnavailable, OffloadError
from dagster_offload.host.machine import host_name
from dagster_offload.ledger.archive import folder, outcomes
from dagster_offload.ledger.archive.backup import cancelled_by, write_backup
from dagster_offload.ledger.archive.folder import Owner
from dagster_offload.ledger.core import identity
from dagster_offload.ledger.core.database import Ledger
from dagster_offload.service.say import Say
from dagster_offload.settings import Settings
from dagster_offload.text.lines import first_line

CHECK_EVERY_SECONDS = 30.0
RETRY_AFTER_SECONDS = 600.0
STOP_SECONDS = 2.0

logger = logging.getLogger(__name__)


def is_due(names: Iterable[str], owner: Owner, every: timedelta, now: datetime) -> bool:
    """Whether a scheduled backup of the owner is due, by the names of the files that exist. A file from the future does not
    count."""
    made = [
        moment
        for name in names
        if (moment := folder.made_at(name, folder.SCHEDULED, owner)) is not None and moment <= now
    ]
    return not made or max(made) + every <= now


class ScheduledBackups:
    """Makes a backup whenever one is due, in a thread. A failure is recorded in the ledger and tried again."""

    def __init__(self, ledger: Ledger, say: Say) -> None:
        self._ledger = ledger
        self._say = say
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_check = time.monotonic()
        found = ledger.run(identity.read)
        self._ledger_id = None if found is None else found.ledger_id

    def check(self, settings: Settings) -> None:
        """Start a backup if one is due by these settings. Call this often: it checks at most every 30 s, and never waits."""
        every = settings.backup.every
        if every is None or time.monotonic() < self._next_check or self.is_running:
            return
        self._next_check = time.monotonic() + CHECK_EVERY_SECONDS
        owner = folder.owner_of(settings, self._ledger_id)
        # In the thread, also to find out whether one is due: a network file system may not answer for hours.
        self._thread = threading.Thread(target=self._run, args=(settings, owner, every), name="backup", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the folder is being read, or a backup written."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Cancel a backup that is being written. Nothing is left of it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _run(self, settings: Settings, owner: Owner, every: timedelta) -> None:
        place = f"{host_name()}:{settings.backup_folder}"
        try:
            if not is_due(folder.own_names(settings.backup_folder), owner, every, datetime.now(UTC)):
                return
            file = self._write(settings, owner)
        except (OffloadError, psycopg.Error, OSError) as error:
            self._failed(place, first_line(error))
        except Exception as error:  # a bug must not make a backup every 30 s
            logger.exception("the scheduled backup failed")
            self._failed(place, f"{type(error).__name__}: {first_line(error)}")
        else:
            with contextlib.suppress(LedgerUnavailable):  # the file is there; `is_due` looks at the files only
                self._ledger.run(outcomes.record_success, place, file.name, file.stat().st_size)

    def _failed(self, place: str, reason: str) -> None:
        if self._over.is_set():
            return
        self._next_check = time.monotonic() + RETRY_AFTER_SECONDS
        self._say(f"The scheduled backup failed: {reason}")
        with contextlib.suppress(LedgerUnavailable):  # said above; the next try records its own outcome
            self._ledger.run(outcomes.record_failure, place, reason)

    def _write(self, settings: Settings, owner: Owner) -> Path:
        file = folder.prepare(settings) / folder.scheduled_name(owner, datetime.now(UTC))
        write_backup(self._ledger, file, on_progress=cancelled_by(self._over.is_set))
        folder.remove_expired(file.parent, settings.backup.keep, owner, folder.SCHEDULED)
        return file
