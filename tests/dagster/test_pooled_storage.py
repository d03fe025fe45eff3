"""The storage of our `dagster.yaml`: Dagster's own, whose connections stay open. Fails if Dagster changes underneath."""

import gc
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
import psycopg
import psycopg2  # type: ignore[import-untyped]
import pytest
import sqlalchemy
from dagster_postgres import DagsterPostgresStorage
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from dagster_offload.defs import pooled_storage
from dagster_offload.defs.instance import open_instance
from dagster_offload.defs.pooled_storage import (
    EVENT_CHECKS,
    RUN_CHECKS,
    SCHEDULE_CHECKS,
    PooledPostgresStorage,
    engine_of,
    wait_for_postgres,
)
from dagster_offload.postgres import dagster_url
from dagster_offload.postgres.embedded.locks import wait_until
from dagster_offload.settings import Settings
from tests.support.connections import counting_connections, recording_statements
from tests.support.patience import PATIENCE_SECONDS


def use_all_storages(instance: dg.DagsterInstance) -> None:
    """One query of each of the three storages."""
    instance.get_runs_count()
    instance.get_dynamic_partitions("documents")
    instance.get_run_records()
    instance.all_instigator_state()


def test_the_instance_uses_the_pooled_storage_for_runs_events_and_schedules(instance: dg.DagsterInstance) -> None:
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    engines = {id(getattr(storage, "_engine")) for storage in storages}  # noqa: B009 - only a Postgres storage has it
    assert len(engines) == 1


def test_a_hundred_queries_open_no_further_connection(settings: Settings) -> None:
    with open_instance(settings) as instance:
        use_all_storages(instance)
        with counting_connections() as opened:
            for _ in range(33):
                use_all_storages(instance)
        assert opened == []


def test_a_table_that_was_found_is_not_looked_for_again(settings: Settings) -> None:
    with open_instance(settings) as instance:
        use_all_storages(instance)
        with recording_statements() as statements:
            use_all_storages(instance)
        assert len(statements) >= 3
        assert [text for text in statements if "pg_catalog" in text] == []


def test_closing_the_instance_closes_its_connections(settings: Settings, database: str) -> None:
    with open_instance(settings) as instance:
        use_all_storages(instance)
        assert connections_of_dagster(database) > 0
    assert all_are_closed(database)


def test_closing_an_instance_leaves_another_one_usable(settings: Settings, database: str) -> None:
    with open_instance(settings) as instance:
        use_all_storages(instance)
        with open_instance(settings) as other:
            use_all_storages(other)
        use_all_storages(instance)
    assert all_are_closed(database)


def test_instances_opened_one_after_another_leave_no_objects_behind(settings: Settings) -> None:
    counts = []
    for _ in range(4):
        with open_instance(settings) as instance:
            use_all_storages(instance)
        del instance
        gc.collect()
        counts.append(sum(isinstance(each, PGDialect) for each in gc.get_objects()))
    assert counts[1:] == [counts[1]] * 3  # the first one opens the engine that the others use


def test_a_forked_process_does_not_use_the_connections_of_its_parent() -> None:
    engine = engine_of("postgresql://nowhere/none")
    pid = os.fork()
    if pid == 0:
        os._exit(1 if engine_of("postgresql://nowhere/none") is engine else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert engine_of("postgresql://nowhere/none") is engine


def test_a_connection_that_postgres_closed_is_replaced(settings: Settings, database: str) -> None:
    with open_instance(settings) as instance:
        use_all_storages(instance)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 240000) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        use_all_storages(instance)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Connections are refused as long as there is an entry; each try removes one."""
    left: list[str] = []
    connect = PGDialect_psycopg2.connect

    def refuse_or_connect(dialect: PGDialect_psycopg2, *arguments: Any, **options: Any) -> Any:
        if left:
            raise psycopg2.OperationalError(left.pop())
        return connect(dialect, *arguments, **options)

    monkeypatch.setattr(PGDialect_psycopg2, "connect", refuse_or_connect)
    monkeypatch.setattr(pooled_storage, "RETRY_SECONDS", 0.0)
    yield left
    wait_for_postgres(0.0)


def test_a_process_of_a_run_on_several_hosts_waits_for_postgres(database: str, outage: list[str]) -> None:
    wait_for_postgres(3600.0)
    outage += ["Connection refused"] * 20  # Dagster's own six tries are fewer
    storage = PooledPostgresStorage(dagster_url(database))
    assert outage == []
    engine_of(dagster_url(database)).dispose()
    outage += ["Connection refused"] * 20
    assert storage.run_storage.get_runs_count() == 0
    assert outage == []


def test_other_processes_do_not_wait_and_an_outage_that_was_too_long_is_not_waited_for_again(
    database: str, outage: list[str]
) -> None:
    engine = engine_of(dagster_url(database))
    outage += ["Connection refused"] * 3
    for left in (2, 1, 0):
        with pytest.raises(sqlalchemy.exc.OperationalError), engine.connect():
            pass
        assert len(outage) == left


def test_another_process_builds_the_same_storage_from_the_instances_reference(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.get_ref().storage, PooledPostgresStorage)
    with dg.DagsterInstance.from_ref(instance.get_ref()) as same:
        use_all_storages(same)


@pytest.mark.parametrize(
    ("name", "checks"),
    [("_run_storage", RUN_CHECKS), ("_event_log_storage", EVENT_CHECKS), ("_schedule_storage", SCHEDULE_CHECKS)],
)
def test_dagster_has_the_internal_parts_that_are_replaced(name: str, checks: tuple[str, ...], database: str) -> None:
    storage = getattr(DagsterPostgresStorage(dagster_url(database)), name)
    assert type(storage._engine.pool).__name__ == "NullPool", "Dagster pools its connections: drop pooled_storage.py"
    assert all(callable(getattr(storage, check)) for check in checks)


def connections_of_dagster(url: str) -> int:
    """Open connections to the database, but for the one that asks."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
            "and backend_type = 'client backend'"
        ).fetchone()
    return 0 if row is None else int(row[0])


def all_are_closed(url: str) -> bool:
    """Whether there is no connection. Waits for those that are ending."""
    return wait_until(lambda: connections_of_dagster(url) == 0, PATIENCE_SECONDS)
