"""Open the ledger of the settings: start or reach Postgres, and bring the schema up to date."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster_offload.errors import SettingsError
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.ledger.reports import views
from dagster_offload.postgres import ensure_postgres
from dagster_offload.postgres.external import normalised
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.catalog import stage_graph


@contextmanager
def open_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """A migrated ledger for the block. Raises `LedgerUnavailable` with the next step.

    An embedded Postgres that dies meanwhile is restarted: no other process may be running to do it. The user's own Postgres
    is followed to the address that `.env` gives it meanwhile.
    """

    def revive() -> None:
        if settings.postgres_url is None:
            ensure_postgres(settings)
        else:
            ledger.move(_present_address(settings))

    with Ledger(ensure_postgres(settings), schema, revive=revive) as ledger:
        migrate(ledger, stage_graph(settings), _fields_of_stages(settings))
        yield ledger


def _fields_of_stages(settings: Settings) -> dict[str, list[views.ViewField]]:
    """The fields of each own stage, for its view."""
    return {
        name: [views.ViewField(field.name, field.column_type) for field in spec.answer]
        for name, spec in settings.own_stages.items()
    }


def _present_address(settings: Settings) -> str:
    """The address of the user's own Postgres by now: `.env` may have changed since the settings were read."""
    before = settings.postgres_url
    try:
        url = load_settings(home=settings.home).postgres_url or before
        return "" if url is None else normalised(url.get_secret_value())
    except SettingsError:  # the file is being edited
        return "" if before is None else normalised(before.get_secret_value())


@contextmanager
def reach_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """The ledger for a process that only reads: it is not migrated, and an embedded Postgres that dies is not restarted.

    Does not open a connection by itself. Raises `LedgerUnavailable` with the next step.
    """
    with Ledger(ensure_postgres(settings), schema) as ledger:
        yield ledger
