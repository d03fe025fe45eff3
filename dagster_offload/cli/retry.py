"""`dagster-offload retry`: return failed or quarantined work to pending, with three new attempts."""

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import document_key, home_option, json_option, no_such_document


@click.command("retry")
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...")
@click.option("--stage", metavar="STAGE", help="Retry only this stage: extract, classify, summarize, or your own.")
@click.option("--state", type=click.Choice(["failed", "quarantined"]), help="Retry only work in this state.")
@click.option("--sink", metavar="NAME", help="Send again the records that this sink refused, instead.")
@home_option
@json_option
def command(
    documents: tuple[str, ...], *, stage: str | None, state: str | None, sink: str | None, as_json: bool
) -> None:
    """Give failed or quarantined work three more attempts. Without arguments: all such work.

    \b
    dagster-offload retry
    dagster-offload retry letters/landlord.pdf
    dagster-offload retry --stage summarize --state failed
    dagster-offload retry --sink paperless
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.cli.sink import retry_dead
    from dagster_offload.ledger.core.opening import open_ledger
    from dagster_offload.ledger.core.rows import State
    from dagster_offload.ledger.reports import status
    from dagster_offload.ledger.work import redo
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    settings = load_settings()
    names = stage_graph(settings).names
    if stage is not None and stage not in names:
        raise click.BadParameter(f"{stage!r} is not one of {', '.join(names)}", param_hint="'--stage'")
    keys = [document_key(settings.library, document) for document in documents]
    with open_ledger(settings) as ledger:
        missing = [key for key in keys if ledger.run(status.explain, key) is None]
        if missing:
            unusable = ledger.run(status.unusable_names)
            raise Refusal(f"no such document: {', '.join(no_such_document(key, unusable) for key in missing)}")
        if sink is not None:
            if stage is not None or state is not None:
                raise click.UsageError("--sink does not go with --stage and --state")
            revived = retry_dead(settings, ledger, sink, keys or None)
            if as_json:
                print_json({"sink": sink, "retried": revived})
            else:
                click.echo(f"{revived} records will be sent again by `up` or `dagster-offload sink send {sink}`")
            return
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
