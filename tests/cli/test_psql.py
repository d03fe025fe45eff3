"""`psql`: how it connects."""

import pytest

from dagster_offload.cli.psql import connection_variables


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("dbname=x", "PGDATABASE"),
        ("hostaddr=x", "PGHOSTADDR"),
        ("connect_timeout=x", "PGCONNECT_TIMEOUT"),
        ("sslmode=x", "PGSSLMODE"),
        ("sslnegotiation=x", "PGSSLNEGOTIATION"),
        ("channel_binding=x", "PGCHANNELBINDING"),
        ("require_auth=x", "PGREQUIREAUTH"),
        ("ssl_min_protocol_version=x", "PGSSLMINPROTOCOLVERSION"),
        ("target_session_attrs=x", "PGTARGETSESSIONATTRS"),
        ("gssencmode=x", "PGGSSENCMODE"),
    ],
)
def test_the_security_of_the_connection_is_passed_on_by_the_name_that_libpq_reads(option: str, variable: str) -> None:
    assert connection_variables(option, "offload")[variable] == "x"


def test_the_shell_only_reads_in_the_schema_of_the_ledger() -> None:
    assert connection_variables("host=x", "offload") == {
        "PGHOST": "x",
        "PGOPTIONS": "-c search_path=offload -c default_transaction_read_only=on",
    }
