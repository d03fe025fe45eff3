"""Dagster's Postgres storage for processes that run for weeks: it keeps a connection, and what it knows about the schema.

dagster_postgres opens a connection for each query of the daemon or of a run, and asks Postgres for its list of tables before
many of them. Both cost more processor time than the queries, and so does the SQL of a batch of events and of their tags:
SQLAlchemy writes it anew for each batch, with a parameter for each column of each row. Here the three storages of an instance
share one small pool, a table or column that was found is not looked for again, and all batches have the same SQL. All
instances of a process share one engine: the code server opens an instance for many ticks and for each run that ends.
`dagster.yaml` names the class, as Dagster documents for storages of your own. Why it is built this way:
docs/decisions/0012-idle-costs.md.
"""

import os
import select
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, Self

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy.dialects.postgresql import ARRAY

from dagster_offload.defs.event_texts import EventTexts

# Connections that stay open. More threads than that open connections of their own and close them after the query.
KEPT_CONNECTIONS = 1
RETRY_SECONDS = 1.0
ANOTHER_OUTAGE_SECONDS = 60.0  # a failure that is later than the last one by this begins another outage

# The internal parts of Dagster: the engines of its storages, and these methods, which ask whether the schema has been
# migrated. Migrations only add. The contract test is tests/dagster/test_pooled_storage.py.
RUN_CHECKS = (
    "has_run_stats_index_cols",
    "has_bulk_actions_selector_cols",
    "has_backfill_id_column",
    "has_bulk_action_job_name_column",
    "has_backfill_tags_table",
)
EVENT_CHECKS = ("has_table",)
SCHEDULE_CHECKS = ("_has_instigators_table", "_has_asset_daemon_asset_evaluations_table", "has_built_index")


class PooledPostgresStorage(DagsterPostgresStorage):
    """The storages of one instance. Its connections are closed when the instance is."""

    def __init__(self, postgres_url: str, should_autocreate_tables: bool = True, inst_data: Any = None) -> None:
        """`inst_data` is Dagster's record of this class in `dagster.yaml`."""
        if _patience.seconds:  # Dagster looks at its tables with an engine of its own
            engine_of(postgres_url).connect().close()
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        self._event_log_storage = _BatchingEventLogStorage(postgres_url, should_autocreate_tables=False)
        engine = engine_of(postgres_url)
        for storage, checks in (
            (self._run_storage, RUN_CHECKS),
            (self._event_log_storage, EVENT_CHECKS),
            (self._schedule_storage, SCHEDULE_CHECKS),
        ):
            storage._engine = engine
            for name in checks:
                setattr(storage, name, _remembered(getattr(storage, name)))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        """Build the storage from its part of `dagster.yaml`."""
        autocreate = config_value.get("should_autocreate_tables", True)
        return cls(pg_url_from_config(config_value), autocreate, inst_data)


class _Patience:
    """How long this process waits for connections while Postgres is unavailable, before Dagster's own retries of ten seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._failing_since: float | None = None
        self._failed_at = 0.0

    def connect(self, dialect: Any, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Open a connection, as SQLAlchemy does by itself. An outage that outlasts the patience is not waited for again."""
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError:
                now = time.monotonic()
                if self._failing_since is None or now - self._failed_at > ANOTHER_OUTAGE_SECONDS:
                    self._failing_since = now
                self._failed_at = now
                if now - self._failing_since >= self.seconds:
                    raise
                time.sleep(RETRY_SECONDS)
            else:
                self._failing_since = None
                return connection


_patience = _Patience()


def wait_for_postgres(seconds: float) -> None:
    """Make this process wait up to `seconds` while Postgres is unavailable. Without it, a run on several hosts would fail.

    Others, such as the web server, keep Dagster's limit.
    """
    _patience.seconds = seconds


# With an engine for each instance, the process would grow: SQLAlchemy keeps its queries of the schema for each of the last
# 128 engines, 0.17 MB each. The limit is for processes that open many databases, such as tests.
@lru_cache(maxsize=8)
def engine_of(postgres_url: str) -> sqlalchemy.Engine:
    """The engine of this process for a database. After `dispose`, it opens connections again when it needs them."""
    engine = sqlalchemy.create_engine(
        postgres_url, isolation_level="AUTOCOMMIT", pool_size=KEPT_CONNECTIONS, max_overflow=-1
    )
    sqlalchemy.event.listen(engine, "checkout", _refuse_closed)
    sqlalchemy.event.listen(engine, "do_connect", _patience.connect)
    return engine


# A connection must not be used by two processes.
os.register_at_fork(after_in_child=engine_of.cache_clear)


PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED.value


def _type_of(event: dg.EventLogEntry) -> str | None:
    return None if event.dagster_event is None else event.dagster_event.event_type_value


class _BatchingEventLogStorage(PostgresEventLogStorage):
    @cached_property
    def _texts(self) -> EventTexts:
        return EventTexts()

    def store_event_batch(self, events: Sequence[dg.EventLogEntry]) -> None:
        """Store a batch of events. Dagster stores those one by one that it plans for a run: one for each document and stage."""
        planned = [event for event in events if _type_of(event) == PLANNED]
        if planned:
            self._store_planned(planned)
        if others := [event for event in events if _type_of(event) != PLANNED]:
            super().store_event_batch(others)

    def _store_planned(self, events: Sequence[dg.EventLogEntry]) -> None:
        returned = self.prepare_insert_event_batch(events).returning(SqlEventLogStorageTable.c.id)
        with self.index_transaction() as conn:  # all or nothing: if it fails, Dagster stores them one by one
            event_ids = [int(row[0]) for row in conn.execute(returned)]
            newest = {
                event.get_dagster_event().asset_key: (event, event_id)
                for event, event_id in zip(events, event_ids, strict=True)
            }
            for event, event_id in newest.values():
                self._store_asset_event(conn, event, event_id)

    def prepare_insert_event_batch(self, events: Sequence[dg.EventLogEntry]) -> Any:
        """The statement that stores a batch of events, in their order. Dagster adds `returning` for their ids."""
        return _insert_all(SqlEventLogStorageTable, [self._event_to_row(event) for event in events])

    def _event_to_row(self, event: dg.EventLogEntry) -> dict[str, Any]:
        inner = event.dagster_event
        if inner is None or inner.event_type_value != dg.DagsterEventType.ASSET_MATERIALIZATION.value:
            return super()._event_to_row(event)
        shown = inner.step_materialization_data.materialization
        return {
            "run_id": event.run_id,
            "event": self._texts.of(event),
            "dagster_event_type": inner.event_type_value,
            "timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
            "step_key": inner.step_key,
            "asset_key": shown.asset_key.to_string(),
            "partition": shown.partition or None,
        }

    def _store_asset_event_tags(self, conn: Any, events: Sequence[dg.EventLogEntry], event_ids: Sequence[int]) -> None:
        rows = [
            {
                "event_id": event_id,
                "asset_key": event.get_dagster_event().asset_key.to_string(),  # type: ignore[union-attr]
                "key": key,
                "value": value,
                "event_timestamp": self._event_insert_timestamp(event),  # type: ignore[no-untyped-call]
            }
            for event_id, event in zip(event_ids, events, strict=True)
            for key, value in self._tags_for_asset_event(event).items()
        ]
        if rows and self.has_table(AssetEventTagsTable.name):
            conn.execute(_insert_all(AssetEventTagsTable, rows))

    def dispose(self) -> None:
        """Close the pool. An instance disposes of this storage and of no other that has the engine.

        Another open instance of this process opens a connection again at its next query.
        """
        super().dispose()
        self._engine.dispose()


def _insert_all(table: sqlalchemy.Table, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The statement that inserts these rows, in their order. Its text does not depend on their number."""
    columns = [table.c[name] for name in rows[0]]
    arrays = [sqlalchemy.literal([row[column.name] for row in rows], ARRAY(column.type)) for column in columns]
    names = [column.name for column in columns]
    unnested = sqlalchemy.func.unnest(*arrays).table_valued(*names, with_ordinality="n").render_derived()
    chosen = sqlalchemy.select(*(unnested.c[name] for name in names)).order_by(unnested.c.n)
    return table.insert().from_select(names, chosen)


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Let the pool open another connection if Postgres closed this one, for example because it restarted.

    Postgres says nothing on an idle connection unless it closes it, so this costs no round trip.
    """
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if poll.poll(0):
        raise sqlalchemy.exc.DisconnectionError


def _remembered(check: Callable[..., bool]) -> Callable[..., bool]:
    """The same check, which no longer asks once the answer was yes. Its arguments are names, and a connection."""
    found: set[tuple[str, ...]] = set()

    def remembered(*arguments: object) -> bool:
        names = tuple(argument for argument in arguments if isinstance(argument, str))
        if names not in found and check(*arguments):
            found.add(names)
        return names in found

    return remembered
