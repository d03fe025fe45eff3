"""`dagster-offload redo --outdated`: ask again where prompt, options or model have changed. Shows the price first."""

import sys

import click

from dagster_offload.cli.options import deep_options, home_option
from dagster_offload.cli.refusal import Refusal


@click.command("redo")
@click.option(
    "--outdated", is_flag=True, help="Everything whose prompt, options or model are no longer the present ones."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
@deep_options
def command(*, outdated: bool, yes: bool) -> None:
    """Ask again where prompt, options or model have changed. Shows documents and hours first, then asks.

    The old results stay until the new ones are there.

    \b
    dagster-offload redo --outdated
    dagster-offload redo --outdated --yes
    """
    from dagster_offload.cli.console import duration
    from dagster_offload.ledger import requests
    from dagster_offload.ledger import slots as ledger_slots
    from dagster_offload.opening import open_ledger
    from dagster_offload.settings import load_settings
    from dagster_offload.stages import recipes

    if not outdated:
        raise click.UsageError("say what: --outdated")
    settings = load_settings()
    current = recipes(settings)
    with open_ledger(settings) as ledger:
        # Without its deep slot the settings give other recipes, and everything would look outdated.
        ledger.run(ledger_slots.refuse_lost_slot, settings.slots)
        estimates = ledger.run(requests.estimate_redo, current)
        if not estimates:
            click.echo("nothing is outdated")
            return
        for estimate in estimates:
            hours = "unknown" if estimate.hours is None else f"about {duration(estimate.hours * 3600)}"
            click.echo(f"{estimate.stage:<10} {estimate.documents} documents, {hours} of the slot's time one by one")
        if not yes:
            if not sys.stdin.isatty():
                raise Refusal("this asks before it starts: add --yes")
            click.confirm("Redo them?", abort=True)
        count = ledger.run(requests.redo_outdated, current)
    click.echo(f"{count} put back: by a running `up`, or now by `dagster-offload scan` and `drain`.")
