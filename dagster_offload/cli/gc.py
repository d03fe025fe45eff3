"""`dagster-offload gc`: remove documents that have been gone for long, and results that no document uses."""

import re
from dataclasses import asdict

import click

from dagster_offload.cli.confirmation import confirm, yes_option
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import home_option, json_option
from dagster_offload.text.counts import counted
from dagster_offload.text.sizes import shown_size


def _days(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """The number of days, at least 1: `90d` or `90`."""
    found = re.fullmatch(r"([1-9]\d{0,4})d?", value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no number of days: write 90d", ctx, param)
    return int(found[1])


@click.command("gc")
@click.option("--older-than", required=True, callback=_days, metavar="DAYS", help="Gone for more than this: 90d.")
@yes_option
@home_option
@json_option
def command(*, older_than: int, yes: bool, as_json: bool) -> None:
    """Remove documents whose files have been gone for more than DAYS, with their history, texts and records.

    Also removes results of the same age that a redo has replaced or that belong to an earlier content of a file. Shows the
    numbers first, then asks for confirmation. If such a file comes back, it is processed again. The freed space is
    used for new documents.

    \b
    dagster-offload gc --older-than 90d
    dagster-offload gc --older-than 90d --yes
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.retention import gone
    from dagster_offload.settings import load_settings

    settings = load_settings()
    with open_existing_ledger(settings) as ledger:
        found = gone.find(ledger, older_than)
        if as_json:
            if not yes:
                raise Refusal("--json asks nothing: add --yes to remove them")
            gone.remove(ledger, older_than)
            print_json(asdict(found))
            return
        if found == gone.Garbage():
            click.echo(f"nothing to remove: no document has been gone for more than {counted(older_than, 'day')}")
            return
        click.echo(
            f"{counted(found.documents, 'document')} gone for more than {counted(older_than, 'day')}, and "
            f"{counted(found.results, 'result')} that no other document uses ({shown_size(found.bytes)})"
        )
        if not yes:
            confirm("Remove them?")
        gone.remove(ledger, older_than)
    click.echo("removed")
