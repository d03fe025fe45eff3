"""Open the ledger of the settings: start or reach Postgres, and bring the schema up to date."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.postgres import ensure_postgres
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import GRAPH

# A resident ledger checks its schema again after this time: another version may have migrated it meanwhile.
MIGRATE_AGAIN_SECONDS = 60.0


@contextmanager
def open_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """A migrated ledger for the block. Raises `LedgerUnavailable` with the next step.

    An embedded Postgres that dies meanwhile is restarted: no other process may be running to do it.
    """
    with _reviving_ledger(settings, schema) as ledger:
        migrate(ledger, GRAPH)
        yield ledger


def _reviving_ledger(settings: Settings, schema: str) -> Ledger:
    def revive() -> None:
        if settings.postgres_url is None:
            ensure_postgres(settings)

    return Ledger(ensure_postgres(settings), schema, revive=revive)


class ResidentLedger:
    """A ledger that stays open between uses, so that work every few seconds opens no connection. Safe for threads."""

    def __init__(self, schema: str = DEFAULT_SCHEMA) -> None:
        self._schema = schema
        self._lock = threading.Lock()
        self._opened: tuple[object, Ledger] | None = None
        self._migrated_at = -math.inf

    def get(self, settings: Settings) -> Ledger:
        """The migrated ledger of these settings. Opens it at the first call and when the settings name another.

        Raises `LedgerUnavailable` with the next step.
        """
        place = (settings.home, settings.postgres_url)
        with self._lock:
            if self._opened is None or self._opened[0] != place:
                self.close()
                self._opened = (place, _reviving_ledger(settings, self._schema))
            ledger = self._opened[1]
            if time.monotonic() - self._migrated_at >= MIGRATE_AGAIN_SECONDS:
                migrate(ledger, GRAPH)
                self._migrated_at = time.monotonic()
            return ledger

    def close(self) -> None:
        """Close the ledger. The next `get` opens it again."""
        if self._opened is not None:
            self._opened[1].close()
        self._opened, self._migrated_at = None, -math.inf


@contextmanager
def reach_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """The ledger for a process that only reads: it is not migrated, and an embedded Postgres that dies is not restarted.

    Does not open a connection by itself. Raises `LedgerUnavailable` with the next step.
    """
    with Ledger(ensure_postgres(settings), schema) as ledger:
        yield ledger
