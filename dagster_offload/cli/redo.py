"""`dagster-offload redo`: redo work whose recipe has changed, or that OCR can now read. Shows the cost first."""

import sys
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import deep_options, home_option

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings

# Seconds of one core for a page in two scripts. Measured: 2 to 5.
OCR_SECONDS_A_PAGE = 4.0


@click.command("redo")
@click.option("--outdated", is_flag=True, help="Redo results made with another prompt, options or model than today's.")
@click.option("--needs-ocr", is_flag=True, help="Read scans that were not read, or that were read in other languages.")
@click.option("--yes", is_flag=True, help="Start without asking for confirmation.")
@home_option
@deep_options
def command(*, outdated: bool, needs_ocr: bool, yes: bool) -> None:
    """Redo documents whose prompt, options or model has changed, or that OCR can now read.

    Shows the number of documents and the time first, then asks for confirmation. The old results stay until the new ones
    are stored.

    \b
    dagster-offload redo --outdated
    dagster-offload redo --outdated --yes
    dagster-offload redo --needs-ocr          after you installed Tesseract or a language
    """
    from dagster_offload.engine.agreement import agree_with_up
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.pipeline import pipeline_of

    if outdated == needs_ocr:
        raise click.UsageError("choose one: --outdated or --needs-ocr")
    settings = load_settings()
    with open_ledger(settings) as ledger:
        agree_with_up(ledger, pipeline_of(settings))
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
    # Without the deep slot's settings all recipes would differ, and everything would look outdated.
    ledger.run(slots.refuse_lost_slot, settings.slots)
    estimates = ledger.run(redo.estimate_redo, current)
    if not estimates:
        click.echo("nothing is outdated")
        return
    for estimate in estimates:
        hours = "unknown" if estimate.hours is None else f"about {duration(estimate.hours * 3600)}"
        click.echo(f"{estimate.stage:<10} {estimate.documents} documents, {hours} of the slot's time, one at a time")
    _confirm(yes=yes)
    count = ledger.run(redo.redo_outdated, current)
    click.echo(
        f"{count} marked as pending. A running `up` processes them; to start now, run `dagster-offload scan` and `drain`."
    )


def _redo_ocr(settings: "Settings", ledger: "Ledger", *, yes: bool) -> None:
    from dagster_offload.cli.formatting import duration
    from dagster_offload.extraction.ocr.tesseract import find_reader
    from dagster_offload.ledger.work import ocr_pages, redo

    reader = find_reader(settings.ocr, settings.ocr_languages)
    if not reader.can_read:
        raise Refusal(reader.advice)
    estimate = ledger.run(redo.estimate_ocr, reader.languages)
    if not estimate.documents:
        click.echo(f"all scans have already been read ({reader.languages})")
        return
    pace = ledger.run(ocr_pages.left).pages_per_minute
    if pace is None:
        cost = f"about {duration(estimate.pages * OCR_SECONDS_A_PAGE)} of one core"
    else:
        cost = f"about {duration(estimate.pages / pace * 60)} at {pace:.1f} pages a minute"
    click.echo(f"{'extract':<10} {estimate.documents} documents, {estimate.pages} pages: {cost}")
    _confirm(yes=yes)
    count = ledger.run(redo.redo_ocr, reader.languages)
    click.echo(
        f"{count} marked as pending. A running `up` reads them; to start now, run `dagster-offload scan`, then `drain`."
    )


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal("redo asks for confirmation, and standard input is not a terminal: add --yes")
    click.confirm("Redo them?", abort=True)
