"""`dagster-offload retry`: return failed or quarantined work to pending, with three new attempts."""

import click

from dagster_offload.cli.completion import complete_document, complete_stage
from dagster_offload.cli.find_document import find_document
from dagster_offload.cli.options import home_option, json_option


@click.command("retry")
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...", shell_complete=complete_document)
@click.option(
    "--stage",
    metavar="STAGE",
    shell_complete=complete_stage,
    help="Retry only this stage, built-in or your own.",
)
@click.option("--state", type=click.Choice(["failed", "quarantined"]), help="Retry only work in this state.")
@home_option
@json_option
def command(documents: tuple[str, ...], *, stage: str | None, state: str | None, as_json: bool) -> None:
    """Give failed or quarantined work three more attempts. Without arguments: all such work.

    \b
    dagster-offload retry
    dagster-offload retry letters/landlord.pdf
    dagster-offload retry --stage summarize --state failed
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.core.rows import State
    from dagster_offload.ledger.work import redo
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    settings = load_settings()
    names = stage_graph(settings).names
    if stage is not None and stage not in names:
        raise click.BadParameter(f"{stage!r} is not one of {', '.join(names)}", param_hint="'--stage'")
    with open_ledger(settings) as ledger:
        keys = [find_document(settings, ledger, document) for document in documents]
        moved = ledger.run(
            redo.retry,
            [stage] if stage else names,
            [State(state)] if state else redo.RETRYABLE,
            keys or None,
        )
    if as_json:
        print_json({"retried": [{"document": document, "stage": stage} for document, stage in moved]})
        return
    for document, moved_stage in moved:
        say(f"{document}  {moved_stage}")
    if not moved:
        click.echo("nothing to retry: no matching work is failed or quarantined")
        return
    click.echo(
        f"\n{len(moved)} will be retried. A running `up` does this; to start now, run `dagster-offload scan` and `drain`."
    )
