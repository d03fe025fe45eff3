"""`dagster-offload redo`: ask again where something has changed since: the recipe, or OCR. Shows the price first."""

import sys
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import deep_options, home_option

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings

# Of one core, a page in two scripts; measured at 2 to 5.
OCR_SECONDS_A_PAGE = 4.0


@click.command("redo")
@click.option(
    "--outdated", is_flag=True, help="Everything whose prompt, options or model are no longer the present ones."
)
@click.option("--needs-ocr", is_flag=True, help="Pictures of text that were not read, or read in other languages.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
@deep_options
def command(*, outdated: bool, needs_ocr: bool, yes: bool) -> None:
    """Ask again where prompt, options or model have changed, or where OCR can do now what it could not. Shows documents
    and hours first, then asks.

    The old results stay until the new ones are there.

    \b
    dagster-offload redo --outdated
    dagster-offload redo --outdated --yes
    dagster-offload redo --needs-ocr          after Tesseract or one of its languages was installed
    """
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings

    if outdated == needs_ocr:
        raise click.UsageError("say what: --outdated or --needs-ocr")
    settings = load_settings()
    with open_ledger(settings) as ledger:
        if needs_ocr:
            _redo_ocr(settings, ledger, yes=yes)
        else:
            _redo_outdated(settings, ledger, yes=yes)


def _redo_outdated(settings: "Settings", ledger: "Ledger", *, yes: bool) -> None:
    from dagster_offload.cli.formatting import duration
    from dagster_offload.ledger.slots import slots
    from dagster_offload.ledger.work import redo
    from dagster_offload.stages.catalog import recipes

    current = recipes(settings)
    # Without its deep slot the settings give other recipes, and everything would look outdated.
    ledger.run(slots.refuse_lost_slot, settings.slots)
    estimates = ledger.run(redo.estimate_redo, current)
    if not estimates:
        click.echo("nothing is outdated")
        return
    for estimate in estimates:
        hours = "unknown" if estimate.hours is None else f"about {duration(estimate.hours * 3600)}"
        click.echo(f"{estimate.stage:<10} {estimate.documents} documents, {hours} of the slot's time one by one")
    _confirm(yes=yes)
    count = ledger.run(redo.redo_outdated, current)
    click.echo(f"{count} put back: by a running `up`, or now by `dagster-offload scan` and `drain`.")


def _redo_ocr(settings: "Settings", ledger: "Ledger", *, yes: bool) -> None:
    from dagster_offload.cli.formatting import duration
    from dagster_offload.extraction.tesseract import find_reader
    from dagster_offload.ledger.work import redo

    reader = find_reader(settings.ocr, settings.ocr_languages)
    if not reader.can_read:
        raise Refusal(reader.advice)
    estimate = ledger.run(redo.estimate_ocr, reader.languages)
    if not estimate.documents:
        click.echo(f"every picture of text was read already ({reader.languages})")
        return
    seconds = duration(estimate.pages * OCR_SECONDS_A_PAGE)
    click.echo(f"{'extract':<10} {estimate.documents} documents, {estimate.pages} pages: about {seconds} of one core")
    _confirm(yes=yes)
    count = ledger.run(redo.redo_ocr, reader.languages)
    click.echo(f"{count} put back: by a running `up`, or now by `dagster-offload scan`; then `drain`.")


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("this asks before it starts: add --yes")
    click.confirm("Redo them?", abort=True)
