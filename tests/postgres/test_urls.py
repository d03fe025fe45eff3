"""Addresses of Postgres in messages."""

import pytest

from dagster_offload.postgres.urls import shown_address


@pytest.mark.parametrize(
    ("conninfo", "shown"),
    [
        ("postgresql://ada:secret@db.local:5432/offload", "db.local:5432/offload"),
        ("postgresql://ada@h1:5432,h2:5433/offload", "h1:5432,h2:5433/offload"),
        ("host=h1,h2 port=5432 dbname=offload", "h1:5432,h2:5432/offload"),
        ("host=/run/postgresql port=5432 dbname=offload", "/run/postgresql"),
        ("dbname=offload", "the local socket/offload"),
    ],
)
def test_an_address_is_shown_with_the_port_of_each_host(conninfo: str, shown: str) -> None:
    assert shown_address(conninfo) == shown
