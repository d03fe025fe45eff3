"""Which ledger this is, whose library it holds, and whether it was moved. The copy that `move` left behind is kept but must
not be used."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from dagster_offload.errors import LedgerUnavailable, ScanRefused
from dagster_offload.ledger.core.database import Cursor

# How the address of every embedded Postgres begins; other addresses are URLs.
EMBEDDED = "the embedded Postgres"


@dataclass(frozen=True)
class Identity:
    """The row of `identity`. `moved_to` has no password."""

    ledger_id: UUID
    moved_to: str | None
    moved_at: datetime | None


def read(cur: Cursor) -> Identity | None:
    """The identity of this ledger. None only if its row is missing."""
    row = cur.execute("select ledger_id, moved_to, moved_at from identity").fetchone()
    return None if row is None else Identity(**row)


def is_stored(cur: Cursor) -> bool:
    """Whether the ledger is new enough to have an identity."""
    return cur.execute("select to_regclass('identity') as oid").fetchone() != {"oid": None}


def refuse_moved(cur: Cursor) -> None:
    """Raise `LedgerUnavailable` if this ledger was moved: two copies in use would repeat each other's calls."""
    found = read(cur)
    if found is not None and found.moved_to is not None and found.moved_at is not None:
        raise LedgerUnavailable(
            f"this ledger was moved to {found.moved_to} on {found.moved_at:%Y-%m-%d %H:%M} UTC and this copy is out of "
            f"date: {setting_for(found.moved_to)}. If that copy is lost, run `dagster-offload move --undo` to use this one"
        )


def setting_for(place: str) -> str:
    """The setting to change in order to use a ledger at `place`: the address of a Postgres, or the embedded one."""
    if place.startswith(EMBEDDED):
        return "unset OFFLOAD_POSTGRES_URL"
    return f"set OFFLOAD_POSTGRES_URL to {place}"


def mark_moved(cur: Cursor, place: str) -> None:
    """Mark this copy as moved to `place`."""
    cur.execute("update identity set moved_to = %s, moved_at = clock_timestamp()", [place])


def unmark_moved(cur: Cursor) -> bool:
    """Use this copy again. Returns False if it was not moved."""
    cur.execute("update identity set moved_to = null, moved_at = null where moved_to is not null")
    return cur.rowcount > 0


@dataclass(frozen=True)
class ScannedLibrary:
    """The library that was scanned last: its resolved path, which may differ from host to host, and the host."""

    path: str
    host: str


def scanned_library(cur: Cursor) -> ScannedLibrary | None:
    """The library that was scanned last. None if no scan has stored it."""
    row = cur.execute("select library as path, library_host as host from identity where library is not null").fetchone()
    return None if row is None else ScannedLibrary(**row)


def note_library(cur: Cursor, library: ScannedLibrary, last: ScannedLibrary | None) -> None:
    """Store which library is scanned now, after `last`. Raises `ScanRefused` if a scan of another one began meanwhile."""
    cur.execute("select from identity for update")
    found = scanned_library(cur)
    if found is not None and found != last and found.path != library.path:
        raise ScanRefused(
            f"a scan of the library {found.path} (on {found.host}) began in this ledger, while this one read {library.path}. "
            "Nothing was changed: scan again"
        )
    cur.execute(
        "update identity set library = %(path)s, library_host = %(host)s "
        "where (library, library_host) is distinct from (%(path)s, %(host)s)",
        vars(library),
    )
