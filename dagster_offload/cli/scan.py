"""`dagster-offload scan`: scan the library once and extract the text of new documents, in this process."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.options import home_option, json_option, library_option
from dagster_offload.library.left_out import Kind, describe_count
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.engine.scan_report import ScanSummary
    from dagster_offload.settings import Settings

NAMES_SHOWN = 20


@click.command("scan")
@click.option(
    "--accept-vanished", is_flag=True, help="Confirm that missing documents were deleted, or that the library moved."
)
@click.option("--skipped", is_flag=True, help="Only list what a scan leaves out, why, and what would change that.")
@library_option
@home_option
@json_option
def command(*, accept_vanished: bool, skipped: bool, as_json: bool) -> None:
    """Scan the library once: find new, changed and missing documents, then extract the text of new ones.

    Changes nothing and exits with code 2 if the library is missing, or if too many documents are missing at once.

    \b
    dagster-offload scan
    dagster-offload scan --library ~/Documents --json
    dagster-offload scan --accept-vanished            after you deleted many documents
    dagster-offload scan --skipped                    what is left out; reads no document and changes nothing
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.run_job import run_job
    from dagster_offload.errors import LibraryMissing
    from dagster_offload.settings import load_settings

    settings = load_settings()
    if settings.library is None:
        raise LibraryMissing("no library is configured: run dagster-offload scan --library DIR, or set OFFLOAD_LIBRARY")
    if skipped:
        if accept_vanished:
            raise click.UsageError(
                "--skipped changes nothing, so --accept-vanished has no effect with it: leave one out"
            )
        _list_left_out(settings, as_json=as_json)
        return
    from dagster_offload.engine.scan_report import ScanSummary

    console = progress_console()
    summary = run_job(settings, "scan", ScanSummary, ["extract"], console, accept_vanished=accept_vanished)
    if as_json:
        print_json(asdict(summary))
    else:
        _print(summary)


def _list_left_out(settings: "Settings", *, as_json: bool) -> None:
    from dagster_offload.cli.console import table, to_terminal
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.engine.scan import list_left_out

    found = list_left_out(settings)
    if as_json:
        rows = [{"name": name} | asdict(left) for name, left in found.items()]
        print_json({"left_out": rows, "counts": Counter(left.kind for left in found.values())})
        return
    if not found:
        click.echo("nothing is left out")
        return
    shown = table("left out", "why", "to include it")
    for name, left in found.items():
        shown.add_row(name, left.reason, left.advice)
    to_terminal(shown)


def _print(summary: "ScanSummary") -> None:
    from dagster_offload.cli.formatting import say

    click.echo(
        f"{counted(summary.found, 'document')}: {summary.added} new, {summary.changed} changed, "
        f"{summary.returned} returned, {summary.vanished} gone"
    )
    click.echo(f"text extracted from {summary.extracted}, {summary.extraction_failed} failed")
    for label, reasons, count in (
        ("not read yet", summary.extraction_to_retry, summary.extraction_waiting),
        ("no longer a document, its results are kept", summary.no_longer_documents, len(summary.no_longer_documents)),
        ("not a document", summary.unusable_names, len(summary.unusable_names)),
        ("folder not read", summary.unreadable_folders, len(summary.unreadable_folders)),
    ):
        for name, reason in list(reasons.items())[:NAMES_SHOWN]:
            say(f"{label}: {name}: {reason}")
        if count > NAMES_SHOWN:
            click.echo(f"{label}: {count - NAMES_SHOWN} more")
    if summary.machine_fault:
        say(f"documents are waiting: {summary.machine_fault}")
    if summary.unreadable:
        click.echo(f"{summary.unreadable} cannot be read; `dagster-offload status` lists them")
    for kind, left in summary.left_out.items():
        more = left.count - len(left.names)
        names_shown = ", ".join(left.names) + (f" and {more} more" if more else "")
        say(f"left out: {describe_count(Kind(kind), left.count)}: {names_shown}")
    if summary.left_out or summary.unusable_names:
        click.echo("`dagster-offload scan --skipped` lists everything that is left out, and why")
