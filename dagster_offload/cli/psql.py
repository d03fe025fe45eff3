"""`dagster-offload psql`: open a SQL shell on the ledger."""

import os
import shutil

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.in_force import read_in_force
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
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.postgres.embedded.binaries import packaged_program

    settings = read_in_force().settings
    with open_ledger_as_it_is(settings) as ledger:
        variables = connection_variables(ledger.conninfo, ledger.schema)
    psql = shutil.which("psql") or str(packaged_program("psql"))
    if not os.access(psql, os.X_OK):
        raise Refusal("psql is not installed: install Debian's package postgresql-client, or brew install libpq")
    # Variables, because every user of this machine can read the arguments of a command.
    os.execve(psql, [psql, *arguments], {**os.environ, **variables})  # noqa: S606 - the shell that a person asked for


def connection_variables(conninfo: str, schema: str) -> dict[str, str]:
    """The variables of libpq that connect a program as `conninfo` does, read-only and in this schema."""
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import Conninfo

    names = {option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
    given = {name: str(value) for name, value in conninfo_to_dict(conninfo).items() if value is not None}
    return {names[name]: value for name, value in given.items() if name in names} | {
        "PGOPTIONS": f"-c search_path={schema} -c default_transaction_read_only=on"
    }
