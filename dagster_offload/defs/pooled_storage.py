"""Dagster's Postgres storage, with connections that stay open between queries.

dagster_postgres opens a connection for every query of a daemon or a run and closes it again, which costs more processor
time than the query. Here the three storages of an instance share one small pool. `dagster.yaml` names the class, as
Dagster documents for storages of your own. Why it is built this way: docs/decisions/0011-idle-costs.md.
"""

from collections.abc import Mapping
from typing import Any, Self

import sqlalchemy
from dagster_postgres import DagsterPostgresStorage, PostgresEventLogStorage
from dagster_postgres.utils import pg_url_from_config

# Connections that stay open. More threads than that open connections of their own and close them after the query.
KEPT_CONNECTIONS = 1


class PooledPostgresStorage(DagsterPostgresStorage):
    """The storages of one instance. Its connections are closed when the instance is."""

    def __init__(self, postgres_url: str, should_autocreate_tables: bool = True, inst_data: Any = None) -> None:
        """`inst_data` is Dagster's record of this class in `dagster.yaml`."""
        super().__init__(postgres_url, should_autocreate_tables, inst_data)
        self._event_log_storage = _ClosingEventLogStorage(postgres_url, should_autocreate_tables=False)
        engine = sqlalchemy.create_engine(
            postgres_url,
            isolation_level="AUTOCOMMIT",
            pool_size=KEPT_CONNECTIONS,
            max_overflow=-1,
            pool_pre_ping=True,  # Postgres may have restarted since the last query
        )
        # The internal part: dagster_postgres has no setting for the pool of these engines. The contract test is
        # tests/dagster/test_pooled_storage.py.
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        """Build the storage from its part of `dagster.yaml`."""
        autocreate = config_value.get("should_autocreate_tables", True)
        return cls(pg_url_from_config(config_value), autocreate, inst_data)


class _ClosingEventLogStorage(PostgresEventLogStorage):
    def dispose(self) -> None:
        """Close the pool. An instance disposes of this storage and of no other that has the engine."""
        super().dispose()
        self._engine.dispose()
