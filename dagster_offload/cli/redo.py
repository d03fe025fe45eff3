"""`dagster-offload redo`: redo documents, work whose recipe has changed, or what OCR can now read. Shows the cost first."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.completion import complete_document, complete_stage
from dagster_offload.cli.confirmation import confirm, yes_option
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.find_document import find_documents
from dagster_offload.cli.options import deep_options, home_option, json_option, stage_names
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.reports.records import Selection
    from dagster_offload.settings import Settings

# Seconds of one core for a page in two scripts. Measured: 2 to 5.
OCR_SECONDS_A_PAGE = 4.0


@click.command("redo")
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...", shell_complete=complete_document)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="STAGE",
    shell_complete=complete_stage,
    help="Redo only this stage. Repeatable.",
)
@click.option(
    "--outdated", is_flag=True, help="Redo results made with another prompt, options, model or readers than today's."
)
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Redo only documents whose records have this value, as in `records --where`. Repeatable.",
)
@click.option("--needs-ocr", is_flag=True, help="Read scans that were not read, or that were read in other languages.")
@yes_option
@home_option
@deep_options
@json_option
def command(
    documents: tuple[str, ...],
    *,
    stages: tuple[str, ...],
    outdated: bool,
    where: tuple[str, ...],
    needs_ocr: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Redo documents, or those whose prompt, options or model has changed, or that OCR can now read.

    Shows documents, calls, tokens and time first, then asks for confirmation. The old results stay until the new ones are
    stored. Without --outdated, every chosen document is processed again, even if nothing changed. --json asks nothing, so it
    needs --yes.

    \b
    dagster-offload redo letters/landlord.pdf --stage summarize
    dagster-offload redo --outdated
    dagster-offload redo --outdated --stage payment --where category=invoice --yes
    dagster-offload redo --needs-ocr          after you installed Tesseract or a language
    """
    from dagster_offload.engine.agreement import agree_with_up
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.records import Query
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.pipeline import pipeline_of

    if needs_ocr and (documents or stages or outdated or where):
        raise click.UsageError("--needs-ocr redoes all such scans: it takes no document, stage or condition")
    if not (documents or outdated or where or needs_ocr):
        raise click.UsageError("name documents, or choose --outdated, --where or --needs-ocr")
    if as_json and not yes:
        raise Refusal("--json asks nothing: add --yes to redo them")
    settings = load_settings()
    chosen = stage_names(settings, stages)
    Query(where).selection(settings)  # a wrong condition is refused before anything starts
    with open_existing_ledger(settings) as ledger:
        if needs_ocr:
            agree_with_up(ledger, pipeline_of(settings))
            _redo_ocr(settings, ledger, yes=yes, as_json=as_json)
            return
        keys = find_documents(settings, ledger, documents) or None
        selection = Query(where, documents=keys).selection(settings) if keys or where else None
        _redo(settings, ledger, chosen, selection, only_outdated=outdated, yes=yes, as_json=as_json)


def _redo(
    settings: "Settings",
    ledger: "Ledger",
    stages: Sequence[str],
    selection: "Selection | None",
    *,
    only_outdated: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.waits import say_what_follows
    from dagster_offload.engine.redoing import describe_estimates, prepare_redo
    from dagster_offload.ledger.work import redo
    from dagster_offload.stages.catalog import stage_graph

    graph = stage_graph(settings)
    # The text changes only with the file or the extraction; reading the file again must be meant.
    stages = stages or (graph.names if only_outdated else graph.drain_stages)
    chosen, estimates = prepare_redo(settings, ledger, stages, selection, only_outdated=only_outdated)
    if as_json:
        print_json({"stages": [asdict(estimate) for estimate in estimates], "redone": ledger.run(redo.redo, chosen)})
        return
    if not estimates:
        click.echo("nothing is outdated" if only_outdated else "nothing to redo: no chosen document is done")
        return
    for line in describe_estimates(estimates):
        click.echo(line)
    if not yes:
        confirm("Redo them?")
    count = ledger.run(redo.redo, chosen)
    click.echo(f"{count} marked as pending.")
    say_what_follows(settings, ledger, [estimate.stage for estimate in estimates])


def _redo_ocr(settings: "Settings", ledger: "Ledger", *, yes: bool, as_json: bool) -> None:
    from dagster_offload.cli.formatting import duration, print_json
    from dagster_offload.cli.waits import say_what_follows
    from dagster_offload.extraction.ocr.tesseract import find_reader
    from dagster_offload.ledger.work import ocr_pages, redo
    from dagster_offload.stages.graph import EXTRACT

    reader = find_reader(settings.ocr, settings.ocr_languages)
    if not reader.can_read:
        raise Refusal(reader.advice)
    estimate = ledger.run(redo.estimate_ocr, reader.languages)
    if as_json:
        print_json({**asdict(estimate), "redone": ledger.run(redo.redo_ocr, reader.languages)})
        return
    if not estimate.documents:
        click.echo(f"all scans have already been read ({reader.languages})")
        return
    pace = ledger.run(ocr_pages.left).pages_per_minute
    if pace is None:
        cost = f"about {duration(estimate.pages * OCR_SECONDS_A_PAGE)} of one core"
    else:
        cost = f"about {duration(estimate.pages / pace * 60)} at {pace:.1f} pages a minute"
    click.echo(f"{'extract':<10} {counted(estimate.documents, 'document')}, {counted(estimate.pages, 'page')}: {cost}")
    if not yes:
        confirm("Redo them?")
    count = ledger.run(redo.redo_ocr, reader.languages)
    click.echo(f"{count} marked as pending.")
    say_what_follows(settings, ledger, [EXTRACT])
