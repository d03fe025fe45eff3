"""`dagster-offload records`: show the records, or write them in the formats people use."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dagster_offload.cli.completion import complete_document
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.find_document import find_document
from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import TypedPath, home_option, json_option
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.ledger.core.database import Ledger
    from dagster_offload.records import Query
    from dagster_offload.settings import Settings

FORMATS = ("table", "jsonl", "csv", "parquet", "html", "md")
MOST_ROWS = 200  # of a table on a terminal
MOST_NAMES = 10  # of files on a line


@click.command("records")
@click.argument("document", required=False, shell_complete=complete_document)
@click.option(
    "--where",
    "where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only records whose field has this value. Repeatable.",
)
@click.option(
    "--state", "states", multiple=True, metavar="STATE", help="Only documents in this state: done, failed, deferred ..."
)
@click.option(
    "--changed-since", metavar="WHEN", help="Only documents that changed since an age (2d), a date or a time."
)
@click.option("--search", metavar="WORDS", help="Only documents in which all these words occur, or parts of them.")
@click.option("--format", "form", type=click.Choice(FORMATS), help="Default: table, or what the name of --out says.")
@click.option("--out", type=TypedPath(), metavar="PATH", help="File to write; for md a folder of notes.")
@click.option("--text", "with_text", is_flag=True, help="Also give the document's text (jsonl, or one DOCUMENT).")
@home_option
@json_option
def command(
    document: str | None,
    *,
    where: tuple[str, ...],
    states: tuple[str, ...],
    changed_since: str | None,
    search: str | None,
    form: str | None,
    out: Path | None,
    with_text: bool,
    as_json: bool,
) -> None:
    """Show the records, or write them to a file. With DOCUMENT: everything about one document.

    The table shows the fields of your own stages below the summary; --json and the files have all of each record.

    A condition compares with =, !=, >, >=, <, <= or ~ (contains). Fields of your own stages are STAGE.FIELD. A folder of
    notes (md) is brought up to date: notes that did not change are not touched, and those of documents that are gone are
    removed. Notes of documents that a condition leaves out are kept.

    \b
    dagster-offload records --where category=invoice --where 'payment.amount>=100'
    dagster-offload records --search "heat pump" --format jsonl
    dagster-offload records --out records.csv
    dagster-offload records --format md --out ~/Notes/documents
    dagster-offload records letters/landlord.pdf --text
    """
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is
    from dagster_offload.records import Query

    if document is not None and (not_for_one := _options_of_many(where, states, changed_since, search, form, out)):
        raise click.BadParameter(f"one document is shown whole: leave out {not_for_one}, or DOCUMENT")
    settings = read_in_force().settings
    query = Query(where, states, changed_since, search)
    query.selection(settings)  # a wrong condition is refused before anything starts
    chosen = _format(form, out)
    if as_json and out is None and chosen != "table":
        raise click.BadParameter(f"--json prints one JSON object: leave out --format {chosen}, or add --out")
    with open_ledger_as_it_is(settings) as ledger:
        if document is not None:
            _one(settings, ledger, document, with_text=with_text, as_json=as_json)
        elif chosen == "table":
            _show(settings, ledger, query, as_json=as_json)
        elif out is None:
            _print_as(settings, ledger, query, chosen, with_text=with_text)
        else:
            _write(settings, ledger, query, chosen, out.expanduser(), with_text=with_text, as_json=as_json)


def _options_of_many(*given: Any) -> str:
    """The names of the given options that select documents or write files."""
    names = ("--where", "--state", "--changed-since", "--search", "--format", "--out")
    return ", ".join(name for name, value in zip(names, given, strict=True) if value not in ((), None))


def _format(form: str | None, out: Path | None) -> str:
    """The format: as given, else by the file's name, else a table."""
    if out == Path("-"):
        raise click.BadParameter("`-` is no file: to print the records, leave out --out")
    if form is None and out is not None:
        form = out.suffix.removeprefix(".").lower()
        if form not in FORMATS:
            given = f"there is no format {form}" if form else f"{out} does not say the format"
            raise click.BadParameter(
                f"{given}: use a name that ends in .csv (spreadsheets open it), .jsonl, .html or .parquet, or add --format"
            )
        if form == "md":
            raise click.BadParameter("Markdown is a folder with a note for each document: use --format md --out FOLDER")
    if form == "table" and out is not None:
        raise click.BadParameter("a table is for the terminal: choose another --format for --out")
    if form in ("parquet", "md") and out is None:
        raise click.BadParameter(f"{form} needs --out")
    return form or "table"


def _show(settings: "Settings", ledger: "Ledger", query: "Query", *, as_json: bool) -> None:
    from itertools import islice

    from dagster_offload.cli.console import lines_of, state_style, styled, table, to_terminal
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.record_lines import own_stage_lines
    from dagster_offload.records.columns import own_fields
    from dagster_offload.records.conditions import unknown_values
    from dagster_offload.records.reading import stream

    if as_json:
        records = list(stream(settings, ledger, query))
        hints = [] if records else list(unknown_values(query.where, settings))
        print_json({"records": records, "hints": hints})
        return
    found = stream(settings, ledger, query, most=MOST_ROWS + 1)
    own = own_fields(settings)
    rows = table("document", "state", "category", "title, summary and your stages" if own else "title and summary")
    shown = 0
    for record in islice(found, MOST_ROWS):
        text = " ".join(f"{record['title'] or ''}: {record['summary'] or ''}".strip(": ").split())
        state = styled(_state(record), state_style(record["state"]))
        told = lines_of((text or record["reason"] or "", *own_stage_lines(record, own)))
        rows.add_row(record["document"], state, record["category"] or "", told)
        shown += 1
    if not shown:
        click.echo("no document matches")
        _say_hints(settings, query)
        return
    to_terminal(rows)
    if next(found, None) is not None:
        click.echo(f"The first {MOST_ROWS} are shown. To see all: --format jsonl, or --out FILE.")


def _say_hints(settings: "Settings", query: "Query", *, err: bool = False) -> None:
    """After no document matched: name each value that its field cannot have."""
    from dagster_offload.cli.formatting import say
    from dagster_offload.records.conditions import unknown_values

    for line in unknown_values(query.where, settings):
        say(line, err=err)


def _state(record: dict[str, Any]) -> str:
    outcome = record["outcome"]
    return str(record["state"]) if outcome in (None, "ok") else f"{record['state']} ({outcome})"


def _print_as(settings: "Settings", ledger: "Ledger", query: "Query", form: str, *, with_text: bool) -> None:
    from dagster_offload.records import export
    from dagster_offload.records.columns import columns
    from dagster_offload.records.reading import stream

    records = stream(settings, ledger, query, with_text=with_text and form == "jsonl")
    if not export.write_text(records, columns(settings), form, sys.stdout):
        _say_hints(settings, query, err=True)


def _write(
    settings: "Settings",
    ledger: "Ledger",
    query: "Query",
    form: str,
    out: Path,
    *,
    with_text: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.reports import names
    from dagster_offload.records import export
    from dagster_offload.records.columns import columns
    from dagster_offload.records.reading import stream

    records = stream(settings, ledger, query, with_text=with_text and form == "jsonl")
    every = columns(settings)
    export.refuse_in_library(out, settings.library)
    if form == "md":
        documents = names.keys(ledger, is_present=True) if query.is_filter else ()
        done = export.write_notes(records, every, out, settings.library, documents)
    else:
        done = export.write_file(records, every, form, out)
    if not done.records:
        _say_hints(settings, query, err=True)
    if as_json:
        print_json({"file": str(out), **asdict(done)})
    elif form == "md":
        notes = done.records - len(done.left_alone) + done.kept
        kept = f", {done.kept} kept that this export does not select" if done.kept else ""
        click.echo(f"{counted(notes, 'note')} in {out}: {done.written} written, {done.removed} removed{kept}", err=True)
        _say_left_alone(done.left_alone)
    else:
        click.echo(f"{counted(done.records, 'record')} written to {out}", err=True)


def _say_left_alone(names: tuple[str, ...]) -> None:
    from dagster_offload.cli.formatting import say

    if names:
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        say(f"not replaced, because it is not ours: {', '.join(names[:MOST_NAMES])}{more}", err=True)


def _one(settings: "Settings", ledger: "Ledger", document: str, *, with_text: bool, as_json: bool) -> None:
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.records import Query
    from dagster_offload.records.reading import stream

    key = find_document(settings, ledger, document)
    record = next(stream(settings, ledger, Query(documents=[key]), with_text=with_text), None)
    if record is None:
        raise Refusal(
            f"{key} has no record: its file is gone from the library (dagster-offload explain shows its history)"
        )
    if as_json:
        print_json(record)
    else:
        _print(record)


def _print(record: dict[str, Any]) -> None:
    """One document on one screen: a line a field, own stages below their names, each value with its quote."""
    from datetime import datetime

    from dagster_offload.cli.formatting import say
    from dagster_offload.cli.record_lines import record_lines
    from dagster_offload.records.words import in_words

    text = record.pop("text", None)
    record["updated_at"] = record["updated_at"] and datetime.fromisoformat(record["updated_at"])
    for name, value in record.items():
        if isinstance(value, dict):
            click.echo(f"\n{name}")
            for line in record_lines(value):
                say(f"  {line}")
        elif value is not None:
            say(f"{name:<20} {in_words(value)}")
    if text is not None:
        click.echo()
        say(text)
    say(f"\nHistory: dagster-offload explain {shlex.quote(str(record['document']))}")
