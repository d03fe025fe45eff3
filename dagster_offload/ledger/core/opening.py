"""Open the ledger the settings name: start or reach Postgres, bring the schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.postgres import ensure_postgres
from dagster_offload.settings import Settings
from dagster_offload.stages.graph import GRAPH


@contextmanager
def open_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """A migrated ledger for the block. Raises `LedgerUnavailable` with what to do.

    An embedded Postgres that dies under it is started again: there may be nobody else to do it.
    """

    def revive() -> None:
        if settings.postgres_url is None:
            ensure_postgres(settings)

    with Ledger(ensure_postgres(settings), schema, revive=revive) as ledger:
        migrate(ledger, GRAPH)
        yield ledger


@contextmanager
def reach_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """The ledger as it is, for a process that only looks on: never migrated, and a Postgres that dies is left alone.

    Opens no connection by itself. Raises `LedgerUnavailable` with what to do.
    """
    with Ledger(ensure_postgres(settings), schema) as ledger:
        yield ledger
