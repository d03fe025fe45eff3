"""Keys and passwords of a running `up` appear in no process list, log, table or file except Dagster's own settings."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.postgres.urls import libpq_url
from dagster_offload.simulator import Router
from tests.support.acceptance import Home, a_home, command_line, wait_for
from tests.support.searching import files_in, files_with
from tests.support.ui import UI

URL_PASSWORD, KEY, POSTGRES_PASSWORD = ("s3cret-of-the-url", "s3cret-key", "s3cret-of-postgres")


@pytest.fixture
def home(empty_url: str) -> Iterator[Home]:
    with Router() as router, a_home(router) as home:
        home.environment |= {
            "OFFLOAD_DEEP_URL": router.url.replace("http://", f"http://me:{URL_PASSWORD}@"),
            "OFFLOAD_DEEP_API_KEY": KEY,
            "OFFLOAD_POSTGRES_URL": libpq_url({**conninfo_to_dict(empty_url), "password": POSTGRES_PASSWORD}),
            "OFFLOAD_SCAN_INTERVAL": "1",
        }
        yield home


def test_no_secret_is_in_a_process_list_a_log_a_table_or_a_file(home: Home, empty_url: str) -> None:
    home.write("letter.txt", "Dear landlord, the heating has been cold since Monday. Yours, Ada Lovelace.")
    command_lines: set[str] = set()

    def is_done() -> bool:
        """Whether the letter has its summary. A look at the running processes, too."""
        command_lines.update(map(command_line, home.processes()))
        with psycopg.connect(empty_url) as connection:
            done = "select 1 from offload.work_items where stage = 'summarize' and state = 'done'"
            return connection.execute(done).fetchone() is not None

    home.up()
    wait_for(is_done, "the record of the letter")
    home.run("status")
    home.run("doctor")
    shown = UI(home).ask("{ instance { info } }")["instance"]["info"]  # the page *Deployment*, *Configuration*
    assert "run_storage" in shown
    assert "s3cret" not in shown
    assert len(command_lines) >= 4, "the code server, the daemon, the UI and `up` itself"
    assert not [line for line in command_lines if "s3cret" in line]
    assert "s3cret" not in home.said

    # Dagster reads its settings from this file, which only its owner may read.
    settings = home.home / "dagster" / "dagster.yaml"
    assert settings.stat().st_mode & 0o777 == 0o600
    assert len(list(files_in(home.home))) > 6
    assert files_with(["s3cret"], home.home, without=[settings]) == []
    assert not [secret for secret in (URL_PASSWORD, KEY) if secret in settings.read_text()]

    with psycopg.connect(empty_url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname like 'offload%'"
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            found = connection.execute(f"select 1 from {table} t where t::text like '%s3cret%' limit 1").fetchall()  # noqa: S608
            assert not found, table
