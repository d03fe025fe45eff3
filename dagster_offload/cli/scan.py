"""`dagster-offload scan`: scan the library once and extract the text of new documents, in this process."""

from typing import Any

import click

from dagster_offload.cli.options import home_option, json_option, library_option


@click.command("scan")
@click.option("--accept-vanished", is_flag=True, help="Confirm that the missing documents were deleted on purpose.")
@library_option
@home_option
@json_option
def command(*, accept_vanished: bool, as_json: bool) -> None:
    """Scan the library once: find new, changed and missing documents, then extract the text of new ones.

    Changes nothing and exits with code 2 if the library is missing, or if too many documents are missing at once.

    \b
    dagster-offload scan
    dagster-offload scan --library ~/Documents --json
    dagster-offload scan --accept-vanished            after you deleted many documents
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.run_job import run_job
    from dagster_offload.errors import LibraryMissing
    from dagster_offload.settings import load_settings

    settings = load_settings()
    if settings.library is None:
        raise LibraryMissing("no library is configured: run dagster-offload scan --library DIR, or set OFFLOAD_LIBRARY")
    summary = run_job(settings, "scan", ["extract"], progress_console(), accept_vanished=accept_vanished)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


def _print(summary: dict[str, Any]) -> None:
    from dagster_offload.cli.formatting import say

    click.echo(
        f"{summary['found']} documents: {summary['added']} new, {summary['changed']} changed, "
        f"{summary['returned']} returned, {summary['vanished']} gone"
    )
    click.echo(f"text extracted from {summary['extracted']}, {summary['extraction_failed']} failed")
    for label, names in (
        ("will be retried", "extraction_to_retry"),
        ("not a document", "unusable_names"),
        ("folder not read", "unreadable_folders"),
        ("folder skipped", "folders_left_out"),
    ):
        for name, reason in summary[names].items():
            say(f"{label}: {name}: {reason}")
    if summary["machine_fault"]:
        say(f"documents are waiting: {summary['machine_fault']}")
    if summary["unreadable"]:
        click.echo(f"{summary['unreadable']} cannot be read; `dagster-offload status` lists them")
