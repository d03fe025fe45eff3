"""Open the ledger of the settings: start or reach Postgres, and bring the schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.reports import views
from dagster_offload.postgres import ensure_postgres
from dagster_offload.settings import Settings
from dagster_offload.stages.catalog import stage_graph


@contextmanager
def open_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """A migrated ledger for the block. Raises `LedgerUnavailable` with the next step.

    An embedded Postgres that dies meanwhile is restarted: no other process may be running to do it.
    """

    def revive() -> None:
        if settings.postgres_url is None:
            ensure_postgres(settings)

    with Ledger(ensure_postgres(settings), schema, revive=revive) as ledger:
        migrate(ledger, stage_graph(settings), _fields_of_stages(settings))
        yield ledger


def _fields_of_stages(settings: Settings) -> dict[str, list[views.ViewField]]:
    """The fields of each own stage, for its view."""
    return {
        name: [views.ViewField(field.name, field.column_type) for field in spec.answer]
        for name, spec in settings.own_stages.items()
    }


@contextmanager
def reach_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """The ledger for a process that only reads: it is not migrated, and an embedded Postgres that dies is not restarted.

    Does not open a connection by itself. Raises `LedgerUnavailable` with the next step.
    """
    with Ledger(ensure_postgres(settings), schema) as ledger:
        yield ledger
