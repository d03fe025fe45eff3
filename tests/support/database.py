"""Postgres for every test: one server per session without fsync, one migrated template, one clone per test.

OFFLOAD_TEST_POSTGRES_URL (the URL of a superuser) runs the same tests on another server.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.ledger.core.database import Ledger
from dagster_offload.ledger.core.migrate import migrate
from dagster_offload.postgres import stop_postgres
from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.stages.graph import BUILT_IN
from tests.support.short_folders import make_short_folder, remove_those_of_killed_sessions

WITHOUT_FSYNC = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
LITTLE_WAL = {"max_wal_size": "128MB"}  # a session's server may be in memory


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a superuser of the session's server, for tests that create databases."""
    if given := os.environ.get("OFFLOAD_TEST_POSTGRES_URL"):
        with _closed_at_the_end():
            yield given
        return
    remove_those_of_killed_sessions()
    home = make_short_folder()
    try:
        with _closed_at_the_end():
            yield ensure_embedded(home, options=WITHOUT_FSYNC | LITTLE_WAL)
    finally:
        stop_postgres(home)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def ledger_template(postgres_url: str) -> Iterator[str]:
    """The name of a database with a migrated, empty ledger. Tests must not connect to it."""
    with new_database(postgres_url, "template0") as name:
        with Ledger(database_url(postgres_url, name)) as ledger:
            migrate(ledger, BUILT_IN)
        yield name


@pytest.fixture
def ledger_url(postgres_url: str, ledger_template: str) -> Iterator[str]:
    """The URL of a new database with a migrated, empty ledger."""
    with new_database(postgres_url, ledger_template) as name:
        yield database_url(postgres_url, name)


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """The URL of a new empty database, for Dagster's storages or a first migration."""
    with new_database(postgres_url, "template0") as name:
        yield database_url(postgres_url, name)


def database_url(postgres_url: str, database: str) -> str:
    """The URL of another database of the same server."""
    return libpq_url({**conninfo_to_dict(postgres_url), "dbname": database})


@contextmanager
def new_database(postgres_url: str, template: str) -> Iterator[str]:
    """The name of a new database, which is dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    create = sql.SQL("create database {} encoding 'UTF8' template {} strategy file_copy").format(
        *map(sql.Identifier, (name, template))
    )
    drop = sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
    _administrator(postgres_url).execute(create)
    try:
        yield name
    finally:
        _administrator(postgres_url).execute(drop)


_administrators: dict[str, psycopg.Connection[Any]] = {}


def _administrator(postgres_url: str) -> psycopg.Connection[Any]:
    """A connection that creates and drops databases. It stays open, because thousands of tests need it twice."""
    known = _administrators.get(postgres_url)
    if known is None or known.closed:
        known = psycopg.connect(database_url(postgres_url, "postgres"), autocommit=True)
        _administrators[postgres_url] = known
    return known


@contextmanager
def _closed_at_the_end() -> Iterator[None]:
    try:
        yield
    finally:
        while _administrators:
            _administrators.popitem()[1].close()
