"""`dagster-offload correct`: a person's word on a field of a record, which counts more than the model's."""

import json
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.find_document import find_document
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import home_option, json_option

if TYPE_CHECKING:
    from rich.table import Table

    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.ledger.work.corrections import Correction
    from dagster_offload.settings import Settings

_NOT_APPLICABLE = "its condition (`when`) is not met, so its record is not shown; the correction counts once it is met"


@click.command("correct")
@click.argument("document", required=False)
@click.option("--set", "written", multiple=True, metavar="FIELD=VALUE", help="The right value of a field. Repeatable.")
@click.option("--note", metavar="TEXT", help="Why; kept with the correction.")
@click.option(
    "--clear",
    "cleared",
    multiple=True,
    metavar="FIELD",
    help="Let the model's answer count again. Repeatable. Also FIELD.PART.",
)
@click.option("--keep", is_flag=True, help="Keep corrections of an earlier version of the file for the present one.")
@click.option("--list", "wants_list", is_flag=True, help="List corrections: all, or those of DOCUMENT.")
@home_option
@json_option
def command(
    document: str | None,
    *,
    written: tuple[str, ...],
    note: str | None,
    cleared: tuple[str, ...],
    keep: bool,
    wants_list: bool,
    as_json: bool,
) -> None:
    """Correct fields of a document's record. The model's answer is kept beside the correction.

    A correction counts in records, views, exports, events and the conditions of stages. A redo and a scan keep it. If the
    file changes, the model's answer counts until you review the correction: --keep it or --clear it.
    Fields of your own stages are STAGE.FIELD; parts of an object or a list are FIELD.PART; `null` means: not stated.

    \b
    dagster-offload correct letters/rent.pdf --set category=invoice
    dagster-offload correct letters/rent.pdf --set payment.amount=12.5 --note "the stamp covers the comma"
    dagster-offload correct letters/rent.pdf --set payment.due=null --set payment.items.0.price=3
    dagster-offload correct letters/rent.pdf --clear payment.amount --clear payment.items.0
    dagster-offload correct --list
    """
    from dagster_offload.ledger.core.opening import open_existing_ledger, open_ledger_as_it_is
    from dagster_offload.settings import load_settings

    ways = [bool(written), bool(cleared), keep, wants_list]
    if sum(ways) != 1 or (document is None and not wants_list):
        raise click.UsageError("name a DOCUMENT and one of --set, --clear, --keep, or use --list")
    if note is not None and not written:
        raise click.UsageError("--note goes with --set")
    if wants_list or document is None:
        settings = read_in_force().settings
        with open_ledger_as_it_is(settings) as ledger:
            key = None if document is None else find_document(settings, ledger, document)
            _list(settings, ledger, key, as_json=as_json)
        return
    settings = load_settings()
    with open_existing_ledger(settings) as ledger:
        key = find_document(settings, ledger, document)
        if written:
            _set(settings, ledger, key, written, note)
        elif cleared:
            _clear(settings, ledger, key, cleared)
        else:
            _keep(settings, ledger, key)
        if as_json:
            _list(settings, ledger, key, as_json=True)


def _set(settings: "Settings", ledger: "Ledger", key: str, written: tuple[str, ...], note: str | None) -> None:
    from dagster_offload.cli.formatting import say
    from dagster_offload.ledger.work import corrections
    from dagster_offload.records.correcting import new_values
    from dagster_offload.stages.catalog import recipes

    values, changes = new_values(settings, ledger, key, written)
    if not ledger.run(corrections.correct, key, values, note, recipes(settings)):
        see = f"dagster-offload explain {shlex.quote(key)}"
        raise Refusal(f"{key} could not be read yet, so it has no record to correct: see {see}")
    say(f"{key}: corrected", err=True)
    for change in changes:
        say(f"  {change.name}: {_as_json(change.before)} → {_as_json(change.after)}", err=True)
    stored = ledger.run(corrections.list_corrections, key)
    for stage in sorted({each.stage for each in values} & {each.stage for each in stored if not each.is_applicable}):
        say(f"  {stage}: {_NOT_APPLICABLE}", err=True)


def _clear(settings: "Settings", ledger: "Ledger", key: str, cleared: tuple[str, ...]) -> None:
    from dagster_offload.cli.formatting import say
    from dagster_offload.ledger.work import corrections
    from dagster_offload.ledger.work.corrections import NewValue
    from dagster_offload.records.correcting import without_corrections
    from dagster_offload.stages.catalog import recipes

    existing = ledger.run(corrections.list_corrections, key)
    ended, stay = without_corrections(settings, existing, cleared)
    if ended:
        ledger.run(corrections.clear, key, ended, recipes(settings))
    for each in stay:
        value = NewValue(each.stage, each.field, each.value)
        ledger.run(corrections.correct, key, [value], each.note, recipes(settings))
    say(f"{key}: the model's answer counts again", err=True)


def _keep(settings: "Settings", ledger: "Ledger", key: str) -> None:
    from dagster_offload.cli.formatting import say
    from dagster_offload.ledger.work import corrections
    from dagster_offload.records.columns import column_name
    from dagster_offload.stages.catalog import recipes

    kept = ledger.run(corrections.keep, key, recipes(settings))
    if not kept:
        raise Refusal(f"{key} has no correction that waits for a review: see dagster-offload correct --list")
    names = ", ".join(column_name(stage, field) for stage, field in kept)
    say(f"{key}: kept for the present file: {names}", err=True)


def _list(settings: "Settings", ledger: "Ledger", key: str | None, *, as_json: bool) -> None:
    from dagster_offload.cli.console import to_terminal
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.work import corrections

    found = ledger.run(corrections.list_corrections, key)
    if as_json:
        print_json({"corrections": [asdict(each) for each in found]})
    elif not found:
        click.echo("no corrections")
    else:
        to_terminal(corrections_table(settings, found))


def corrections_table(settings: "Settings", found: "list[Correction]") -> "Table":
    """The corrections with the model's answers beside them, and what to do about those that wait for a review."""
    from dagster_offload.cli.console import table
    from dagster_offload.records.columns import column_name

    rows = table("document", "field", "corrected to", "the model's answer", "note", "")
    for each in found:
        name = column_name(each.stage, each.field)
        why = _why_it_does_not_count(each, name)
        rows.add_row(each.document, name, _as_json(each.value), _as_json(each.answered), each.note or "", why)
    return rows


def _as_json(value: object) -> str:
    """The value as a person would write it after --set."""
    from dagster_offload.records.words import plain_numbers

    return json.dumps(plain_numbers(value), ensure_ascii=False)


def _why_it_does_not_count(found: "Correction", name: str) -> str:
    if found.is_for_review:
        return f"does not count: the file has changed. dagster-offload correct DOCUMENT --keep, or --clear {name}"
    return "" if found.is_applicable else f"{found.stage}: {_NOT_APPLICABLE}"
