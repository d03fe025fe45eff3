"""`dagster-offload retry`: try work again that failed, is quarantined or waits for its next attempt."""

from typing import TYPE_CHECKING

import click

from dagster_offload.cli.completion import complete_document, complete_stage
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.find_document import find_documents
from dagster_offload.cli.options import home_option, json_option, stage_names
from dagster_offload.text.suggestions import suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.settings import Settings


@click.command("retry")
@click.argument("documents", nargs=-1, metavar="[DOCUMENT]...", shell_complete=complete_document)
@click.option(
    "--stage",
    metavar="STAGE",
    shell_complete=complete_stage,
    help="Retry only this stage, built-in or your own.",
)
@click.option("--state", type=click.Choice(["failed", "quarantined"]), help="Retry only work in this state.")
@click.option("--reason", metavar="REASON", help="Retry only work with a fault of this reason, such as `no_json`.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Retry all work that failed, is quarantined or waits for its next attempt.",
)
@click.option("--sink", metavar="NAME", help="Send again the records that this sink refused, instead.")
@home_option
@json_option
def command(
    documents: tuple[str, ...],
    *,
    stage: str | None,
    state: str | None,
    reason: str | None,
    everything: bool,
    sink: str | None,
    as_json: bool,
) -> None:
    """Give work that failed or is quarantined three more attempts, and work that waits after a fault its next one now.

    Without a selection, it says what there is to retry, and retries nothing.

    \b
    dagster-offload retry letters/landlord.pdf
    dagster-offload retry --all
    dagster-offload retry --stage summarize --state failed
    dagster-offload retry --reason no_json       the word before the colon in `status` and `explain`
    dagster-offload retry --sink paperless
    """
    from dagster_offload.ledger.core.opening import open_existing_ledger
    from dagster_offload.settings import load_settings
    from dagster_offload.stages.catalog import stage_graph

    if everything and (documents or stage or state or reason or sink):
        raise click.UsageError("--all retries all: leave out DOCUMENT, --stage, --state, --reason and --sink")
    settings = load_settings()
    stages = stage_names(settings, [stage] if stage else []) or stage_graph(settings).names
    with open_existing_ledger(settings) as ledger:
        keys = find_documents(settings, ledger, documents) or None
        if sink is None:
            is_selected = bool(keys or stage or state or reason or everything)
            _retry_work(settings, ledger, stages, state, keys, reason, is_selected=is_selected, as_json=as_json)
        elif stage is not None or state is not None or reason is not None:
            raise click.UsageError("--sink does not go with --stage, --state and --reason")
        else:
            _send_again(settings, ledger, sink, keys, as_json=as_json)


def _retry_work(
    settings: "Settings",
    ledger: "Ledger",
    stages: "Sequence[str]",
    state: str | None,
    keys: "Sequence[str] | None",
    reason: str | None,
    *,
    is_selected: bool,
    as_json: bool,
) -> None:
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.cli.waits import say_what_follows
    from dagster_offload.ledger.core.rows import State
    from dagster_offload.ledger.work import redo

    if not is_selected:
        _refuse_without_selection(ledger)
    code = None if reason is None else _known_reason(ledger, reason)
    if state is None:
        moved = ledger.run(redo.try_again, stages, keys, code)
    else:
        moved = ledger.run(redo.retry, stages, [State(state)], keys, code)
    if as_json:
        print_json({"retried": [{"document": document, "stage": stage} for document, stage in moved]})
        return
    for document, stage in moved:
        say(f"{document}  {stage}")
    if not moved:
        click.echo("nothing to retry: no matching work is failed or quarantined, or waits for its next attempt")
        return
    click.echo(f"\n{len(moved)} will be retried.")
    say_what_follows(settings, ledger, dict.fromkeys(stage for _, stage in moved))


def _refuse_without_selection(ledger: "Ledger") -> None:
    """Raise `Refusal` with what can be retried, if anything can."""
    from dagster_offload.ledger.reports import status

    found = [
        f"{group.count} {group.stage} {group.code or group.state}" for group in ledger.run(status.problem_groups, 1)
    ]
    if waiting := sum(ledger.run(status.in_back_off).values()):
        found.append(f"{waiting} waiting for the next attempt")
    if found:
        raise Refusal(
            f"name documents, or choose --reason, --stage or --state; --all retries all of it: {', '.join(found)}"
        )


def _send_again(
    settings: "Settings", ledger: "Ledger", sink: str, keys: "Sequence[str] | None", *, as_json: bool
) -> None:
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.sink import send_again

    revived, said = send_again(settings, ledger, sink, keys)
    if as_json:
        print_json({"sink": sink, "retried": revived})
    else:
        click.echo(said)


def _known_reason(ledger: "Ledger", reason: str) -> str:
    """The code of a reason. Raises `Refusal` with the reasons that there are if no work has it."""
    from dagster_offload.ledger.work import redo

    code, known = reason.split(":")[0].strip(), ledger.run(redo.reasons)
    if code in known or not known:
        return code
    reasons = ", ".join(f"{name} ({count})" for name, count in known.items())
    raise Refusal(f"no work has a fault of the reason {code!r}{suggestion(code, known)}: the reasons are {reasons}")
