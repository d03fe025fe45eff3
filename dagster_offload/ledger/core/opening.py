"""Open the ledger of the settings: start or reach Postgres, and bring the schema up to date unless it is taken as it is."""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from psycopg.errors import UndefinedColumn, UndefinedFunction, UndefinedTable
from pydantic import SecretStr

from dagster_offload.errors import HomeStopped, LedgerUnavailable, SettingsError
from dagster_offload.ledger.archive.before_migration import back_up_before_migration
from dagster_offload.ledger.core.database import DEFAULT_SCHEMA, Cursor, Ledger
from dagster_offload.ledger.core.migrate import existing_step, migrate, refuse_other_sql, refuse_unusable
from dagster_offload.ledger.reports import views
from dagster_offload.postgres import (
    embedded_url,
    ensure_postgres,
    has_embedded,
    identity_of_data,
    is_running,
    reason_to_restart,
)
from dagster_offload.postgres.external import normalised
from dagster_offload.settings import Settings, load_settings
from dagster_offload.stages.catalog import stage_graph
from dagster_offload.stages.own import record_columns
from dagster_offload.stages.pipeline import pipeline_of

# A resident ledger checks its schema again after this time: another version may have migrated it meanwhile.
MIGRATE_AGAIN_SECONDS = 60.0
REMOVAL_SECONDS = 0.5  # `rm -r` of a home takes about so long


@contextmanager
def open_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """A migrated ledger for the block. Raises `LedgerUnavailable` with the next step.

    An embedded Postgres that dies meanwhile is restarted: no other process may be running to do it. The user's own Postgres
    is followed to the address that `.env` gives it meanwhile.
    """
    with _reviving_ledger(settings, schema) as ledger:
        _migrate(ledger, settings)
        yield ledger


@contextmanager
def open_existing_ledger(settings: Settings) -> Iterator[Ledger]:
    """`open_ledger` for what makes no sense in a new ledger: a mistyped OFFLOAD_HOME or OFFLOAD_POSTGRES_URL would look like one.

    Raises `SettingsError` if the home has no ledger, and `NoLedger` if the user's own Postgres has none.
    """
    refuse_empty_home(settings)
    with _reviving_ledger(settings, DEFAULT_SCHEMA) as ledger:
        ledger.run(existing_step, ledger.schema)
        _migrate(ledger, settings)
        yield ledger


@contextmanager
def open_ledger_as_it_is(settings: Settings, *, starts_postgres: bool = True) -> Iterator[Ledger]:
    """The ledger with no backup and no migration; its stages stay those of `up`. The caller may still write to it.

    Raises `SettingsError` if the home has no ledger, and `LedgerUnavailable` if this version cannot use it. Without
    `starts_postgres`, raises `HomeStopped` if the home's Postgres does not run or is stopped meanwhile.
    """
    refuse_empty_home(settings)
    if starts_postgres or settings.postgres_url is not None:
        opened = _reviving_ledger(settings, DEFAULT_SCHEMA)
    else:
        opened = _running_ledger(settings.home)
    with opened as ledger:
        ledger.run(refuse_unusable, ledger.schema)
        try:
            yield ledger
        except (UndefinedColumn, UndefinedFunction, UndefinedTable) as error:
            try:
                ledger.run(refuse_other_sql)
            except LedgerUnavailable as other_version:
                raise other_version from error
            raise


def refuse_empty_home(settings: Settings) -> None:
    """Raise `SettingsError` if the home should have an embedded Postgres and has none. Creates nothing.

    For commands that do more than open the ledger: they call it first. A Postgres of the user's own is not looked at.
    """
    if settings.postgres_url is None and not has_embedded(settings.home):
        raise SettingsError(
            f"there is no ledger in {settings.home}: correct OFFLOAD_HOME, or start `dagster-offload up` with this home"
        )


def _migrate(ledger: Ledger, settings: Settings) -> bool:
    """Bring the ledger up to date, after a backup if an older version wrote it. Returns whether the stages are these."""

    def back_up(cur: Cursor) -> None:
        back_up_before_migration(cur, ledger, settings)

    graph, fields = stage_graph(settings), _fields_of_stages(settings)
    return migrate(ledger, graph, fields, pipeline_of(settings), back_up=back_up)


def _reviving_ledger(settings: Settings, schema: str) -> Ledger:
    def revive() -> None:
        if settings.postgres_url is not None:
            ledger.move(_present_address(settings.home, settings.postgres_url))
            return
        if reason_to_restart(settings.home) is not None:
            # A home that is being removed loses its socket or its server, too. A start would make files in it again.
            time.sleep(REMOVAL_SECONDS)
        if identity_of_data(settings.home) == identity:
            ledger.move(ensure_postgres(settings))
        else:  # a start would make an empty ledger, or start the Postgres of another home
            raise LedgerUnavailable(f"OFFLOAD_HOME {settings.home} was removed, moved or replaced meanwhile")

    ledger = Ledger(ensure_postgres(settings), schema, revive=revive)
    identity = identity_of_data(settings.home)
    return ledger


def _running_ledger(home: Path) -> Ledger:
    """The ledger of the home's Postgres, which is not started. Raises `HomeStopped` if it does not run, also later."""

    def refuse_stopped() -> None:
        if not is_running(home):
            raise HomeStopped(f"{home} is stopped: its Postgres does not run. `dagster-offload up` starts it")

    refuse_stopped()
    return Ledger(embedded_url(home), revive=refuse_stopped)


class ResidentLedger:
    """A ledger that stays open between uses, so that work every few seconds opens no connection. Safe for threads."""

    def __init__(self, schema: str = DEFAULT_SCHEMA) -> None:
        self._schema = schema
        self._lock = threading.RLock()
        self._opened: tuple[object, Ledger] | None = None
        self._migrated_at = -math.inf
        self._migrated_to: object = None  # the stages and their fields

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
            graph, fields = stage_graph(settings), _fields_of_stages(settings)
            if self._migrated_to != (graph, fields) or time.monotonic() - self._migrated_at >= MIGRATE_AGAIN_SECONDS:
                is_in_force = _migrate(ledger, settings)
                # Else the running `up` has not announced these settings yet, and the next call tries again.
                self._migrated_to = (graph, fields) if is_in_force else None
                self._migrated_at = time.monotonic()
            return ledger

    def close(self) -> None:
        """Close the ledger. The next `get` opens it again."""
        with self._lock:
            if self._opened is not None:
                self._opened[1].close()
            self._opened, self._migrated_at = None, -math.inf


def _fields_of_stages(settings: Settings) -> dict[str, list[views.ViewField]]:
    """The columns of each own stage, for its view."""
    return {
        name: [views.ViewField(*column) for column in record_columns(spec)]
        for name, spec in settings.own_stages.items()
    }


def _present_address(home: Path, before: SecretStr) -> str:
    """The address of the user's own Postgres by now: `.env` may have changed since the settings were read."""
    try:
        return normalised((load_settings(home=home).postgres_url or before).get_secret_value())
    except SettingsError:  # the file is being edited
        return normalised(before.get_secret_value())


@contextmanager
def reach_ledger(settings: Settings, schema: str = DEFAULT_SCHEMA) -> Iterator[Ledger]:
    """The ledger without any check: it may be missing, older, newer or moved. For steps that decide that themselves, such as
    a restore, and for processes that work beside one that has opened it.

    Opens no connection by itself, and does not restart an embedded Postgres that dies. Raises `LedgerUnavailable` with the
    next step.
    """
    with Ledger(ensure_postgres(settings), schema) as ledger:
        yield ledger
