"""The backup of an older ledger that every process makes before it migrates it."""

import logging
from datetime import UTC, datetime

from dagster_offload.errors import BackupError, LedgerUnavailable
from dagster_offload.ledger.archive import folder, tables
from dagster_offload.ledger.archive.backup import write_backup
from dagster_offload.ledger.core import identity, migrate
from dagster_offload.ledger.core.database import Cursor, Ledger
from dagster_offload.settings import Settings

logger = logging.getLogger(__name__)


def back_up_before_migration(cur: Cursor, ledger: Ledger, settings: Settings) -> None:
    """Make a backup of a ledger that is about to be migrated in the transaction of `cur`, and log where it is.

    A ledger without work has nothing to lose and gets none. Raises `LedgerUnavailable` if the backup cannot be written:
    then the ledger must not be migrated.
    """
    if not tables.has_rows(cur, ledger.schema, tables.WORK):
        return
    step, newest = migrate.current_step(cur, ledger.schema), migrate.newest_step()
    found = identity.read(cur) if identity.is_stored(cur) else None
    owner = folder.owner_of(settings, None if found is None else found.ledger_id)
    try:
        file = folder.prepare(settings) / folder.name_before_step(newest, owner, datetime.now(UTC))
        write_backup(ledger, file)
    except BackupError as error:
        raise LedgerUnavailable(
            f"this version changes the ledger (schema step {step} to {newest}), and the backup before that failed: "
            f"{error}. Nothing was changed: correct that, or set OFFLOAD_BACKUP_DIR to a folder on another disk"
        ) from error
    # A warning, because a person who upgrades should see it, whatever the command.
    logger.warning(
        "This version changes the ledger (schema step %s to %s). A backup from before: %s", step, newest, file
    )
    try:
        folder.remove_expired(file.parent, settings.backup.keep, owner, folder.BEFORE_MIGRATION)
    except OSError as error:  # the backup is there
        logger.warning("old backups cannot be removed: %s", error)
