"""`dagster-offload psql`: open a SQL shell on the ledger."""

import os
import shutil

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import home_option


@click.command("psql", context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@home_option
def command(arguments: tuple[str, ...]) -> None:
    """Open psql on the ledger, embedded or not. ARGUMENTS are passed on to psql.

    The view `records` has one row per document. Only read: a change here can lose work.

    \b
    dagster-offload psql
    dagster-offload psql -- -c 'select document, category from records limit 5'
    dagster-offload psql -- --csv -c 'select * from records' > records.csv
    """
    from psycopg.conninfo import conninfo_to_dict

    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.postgres.embedded.binaries import packaged_program
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_ledger(settings) as ledger:
        parts, schema = conninfo_to_dict(ledger.conninfo), ledger.schema
    psql = shutil.which("psql") or str(packaged_program("psql"))
    if not os.access(psql, os.X_OK):
        raise Refusal("psql is not installed: install Debian's package postgresql-client, or brew install libpq")
    # Variables, because every user of this machine can read the arguments of a command.
    names = {"dbname": "PGDATABASE", "password": "PGPASSWORD", "sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    environment = {
        names.get(name, f"PG{name.upper()}"): str(value) for name, value in parts.items() if value is not None
    }
    environment["PGOPTIONS"] = f"-c search_path={schema} -c default_transaction_read_only=on"
    os.execve(psql, [psql, *arguments], {**os.environ, **environment})  # noqa: S606 - the shell that a person asked for
