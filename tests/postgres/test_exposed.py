"""Whether others on the network can read what goes to the user's own Postgres: connections over TCP and over a socket."""

import os
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from dagster_offload.postgres.embedded.server import ensure_embedded
from dagster_offload.postgres.external import is_readable, why_exposed
from tests.support.database import WITHOUT_FSYNC

# Only this process has it, so the usual port is free there.
ADDRESS = f"127.{100 + os.getpid() // 250 % 100}.{os.getpid() % 250}.1"


def test_a_connection_beyond_this_machine_without_tls_is_exposed(home: Path) -> None:
    rules = home.parent / "pg_hba.conf"
    rules.write_text("local all all trust\nhost all all 127.0.0.0/8 trust\n")
    there = {"listen_addresses": ADDRESS, "port": "5432", "hba_file": str(rules)}
    socket = ensure_embedded(home, options={**WITHOUT_FSYNC, **there})
    found = conninfo_to_dict(socket)
    who = f"user={found['user']} dbname={found['dbname']} port=5432"
    with psycopg.connect(socket) as connection:
        assert why_exposed(connection) is None
    with psycopg.connect(f"{who} host={ADDRESS}") as connection:
        assert why_exposed(connection) is None
    with psycopg.connect(f"{who} host=db.example.org hostaddr={ADDRESS}") as connection:
        assert "sent to db.example.org unencrypted" in str(why_exposed(connection))


@pytest.mark.parametrize(
    ("host", "uses_tls", "readable"),
    [
        ("db.example.org", False, True),
        ("192.168.1.7", False, True),
        ("db.example.org", True, False),
        ("localhost", False, False),
        ("::1", False, False),
        ("/var/run/postgresql", False, False),
    ],
)
def test_tls_and_this_machine_are_not_exposed(host: str, uses_tls: bool, readable: bool) -> None:
    assert is_readable(host, uses_tls=uses_tls) is readable
