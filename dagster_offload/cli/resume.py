"""`dagster-offload resume`: use a paused slot again."""

import click

from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option, slot_names


@click.command("resume")
@click.argument("slot", required=False)
@home_option
@json_option
def command(slot: str | None, *, as_json: bool) -> None:
    """Use a paused slot again. Without SLOT: every slot.

    \b
    dagster-offload resume
    dagster-offload resume deep
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.ledger.slots import rests

    settings = read_in_force().settings
    names = slot_names(settings, slot)
    with open_existing_ledger(settings) as ledger:
        resumed = [name for name in names if ledger.run(rests.resume, name)]
        resting = [rest for each in settings.slots if (rest := ledger.run(rests.read_rest, each)) is not None]
    if as_json:
        print_json({"resumed": resumed})
        return
    if not resumed:
        click.echo("Nothing was paused." if slot is None else f"{slot} was not paused.")
    elif slot is None:
        click.echo("No slot is paused now.")
    else:
        click.echo(f"{slot} is no longer paused.")
    for rest in resting:
        if rest.slot in names:
            say(str(rest))
