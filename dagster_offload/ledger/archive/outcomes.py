"""How the last scheduled backup of each folder ended. `status` and `doctor` show it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dagster_offload.ledger.core.database import Cursor


@dataclass(frozen=True)
class BackupOutcome:
    """A row of `backups`. `file`, `bytes` and `succeeded_at` are of the last backup that succeeded."""

    folder: str
    tried_at: datetime
    succeeded_at: datetime | None
    file: str | None
    bytes: int | None
    error: str | None


def record_success(cur: Cursor, folder: str, file: str, size: int) -> None:
    """A backup of `size` bytes was written into the folder."""
    cur.execute(
        "insert into backups (folder, tried_at, succeeded_at, file, bytes) "
        "values (%(folder)s, clock_timestamp(), clock_timestamp(), %(file)s, %(bytes)s) on conflict (folder) do update set "
        "tried_at = excluded.tried_at, succeeded_at = excluded.succeeded_at, file = excluded.file, bytes = excluded.bytes, "
        "error = null",
        {"folder": folder, "file": file, "bytes": size},
    )


def record_failure(cur: Cursor, folder: str, error: str) -> None:
    """A backup could not be written into the folder."""
    cur.execute(
        "insert into backups (folder, tried_at, error) values (%s, clock_timestamp(), %s) "
        "on conflict (folder) do update set tried_at = excluded.tried_at, error = excluded.error",
        [folder, error],
    )


def outcomes(cur: Cursor) -> Sequence[BackupOutcome]:
    """The last outcome of every folder, in the order of their names."""
    cur.execute("select folder, tried_at, succeeded_at, file, bytes, error from backups order by folder")
    return [BackupOutcome(**row) for row in cur.fetchall()]


def failure(outcome: BackupOutcome) -> str | None:
    """One sentence about a failed backup; None if the last one succeeded."""
    if outcome.error is None:
        return None
    last = (
        f"the last good one is of {outcome.succeeded_at:%Y-%m-%d %H:%M} UTC"
        if outcome.succeeded_at
        else "there is none"
    )
    return f"the backup into {outcome.folder} failed: {outcome.error} ({last})"
