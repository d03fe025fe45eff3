"""`OFFLOAD_POSTGRES_URL`: the user's own server, every spelling of its address, and the reasons for a refusal."""

import logging
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from dagster_offload.errors import LedgerUnavailable, SettingsError
from dagster_offload.postgres import dagster_url, ensure_postgres, stop_postgres
from dagster_offload.postgres.urls import libpq_url
from dagster_offload.settings import load_settings

PASSWORD = "p@ss:w/rd?#%2 한글'\""


def ensure(url: str) -> str:
    return ensure_postgres(load_settings(home="/nonexistent", postgres_url=url))


@pytest.mark.parametrize("scheme", ["postgresql://", "postgres://", "postgresql+psycopg2://", "postgresql+psycopg://"])
def test_every_spelling_of_the_scheme_reaches_the_same_database(empty_url: str, scheme: str) -> None:
    url = ensure(empty_url.replace("postgresql://", scheme))

    with psycopg.connect(url) as conn:
        assert conn.info.dbname == conninfo_to_dict(empty_url)["dbname"]
        assert conn.info.encoding == "utf-8"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/db",
        "host=localhost password=hunter2",
        "/var/lib/hunter2",
        "postgresql://user:hunter2@@host:5432/db",
        "postgresql://user:a/hunter2@host:5432/db",
        "postgresql://user:hunter2:x@host:port/db",
        "postgresql://user:%hunter2@host:5432/db",
    ],
)
def test_the_error_for_an_invalid_address_names_the_setting_and_shows_nothing_of_the_address(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^OFFLOAD_POSTGRES_URL .*postgresql://USER:PASSWORD@HOST") as caught:
        ensure(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1/library", "Connection refused"),
        ("db.invalid/library", "failed to resolve host"),
        ("/library?host=/nonexistent", "No such file or directory"),
    ],
)
def test_the_error_for_an_unreachable_server_is_one_line_without_the_password(
    address: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(LedgerUnavailable, match=rf"^OFFLOAD_POSTGRES_URL: .*{reason}") as caught:
        ensure(f"postgresql://somebody:hunter2@{address}")

    assert "\n" not in str(caught.value)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {caplog.text}"


def test_the_error_for_a_missing_database_names_it(postgres_url: str) -> None:
    missing = libpq_url({**conninfo_to_dict(postgres_url), "dbname": "no_such_database"})

    with pytest.raises(LedgerUnavailable, match=r'^OFFLOAD_POSTGRES_URL: .*database "no_such_database" does not exist'):
        ensure(missing)


@pytest.fixture
def ascii_url(postgres_url: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        options = "encoding 'SQL_ASCII' locale_provider libc locale 'C' template template0"
        conn.execute(sql.SQL("create database {} {}").format(sql.Identifier(name), sql.SQL(options)))
        try:
            yield libpq_url({**conninfo_to_dict(postgres_url), "dbname": name})
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def test_a_database_that_is_not_utf8_is_refused_with_the_statement_that_creates_one(ascii_url: str) -> None:
    with pytest.raises(
        LedgerUnavailable, match=r"SQL_ASCII, but documents need UTF8: create a database with `create database"
    ):
        ensure(ascii_url)


def test_a_standby_is_refused(home: Path, start: Callable[[Path], str]) -> None:
    start(home)
    stop_postgres(home)
    (home / "postgres" / "data" / "standby.signal").touch(0o666)

    with pytest.raises(LedgerUnavailable, match=r"is a read-only standby: use its primary"):
        ensure(start(home))


def test_the_home_is_not_created_when_the_server_is_the_users_own(empty_url: str, home: Path) -> None:
    ensure_postgres(load_settings(home=home, postgres_url=empty_url))

    assert not home.exists()


def test_dagster_reaches_the_same_database_through_psycopg2(empty_url: str) -> None:
    url = dagster_url(ensure(empty_url))

    assert url.startswith("postgresql+psycopg2://")
    with create_engine(url, poolclass=NullPool).connect() as conn:
        assert conn.execute(text("select current_database()")).scalar() == conninfo_to_dict(empty_url)["dbname"]


def test_both_spellings_of_a_url_keep_every_part_of_an_address() -> None:
    parts = {
        "user": "a b",
        "password": PASSWORD,
        "host": "one,two",
        "port": "1,2",
        "dbname": "c/d",
        "sslmode": "require",
    }

    url = libpq_url(parts)

    assert conninfo_to_dict(url) == parts
    engine = create_engine(dagster_url(url))
    _, arguments = engine.dialect.create_connect_args(engine.url)
    kwargs = dict(arguments)
    assert kwargs.pop("host").split(",") == ["one", "two"]
    assert kwargs == {"user": "a b", "password": PASSWORD, "port": "1,2", "dbname": "c/d", "sslmode": "require"}
