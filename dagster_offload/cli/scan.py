"""`dagster-offload scan`: look at the library once and take the text out of what is new, in this process."""

from typing import Any

import click

from dagster_offload.cli.options import home_option, json_option, library_option


@click.command("scan")
@click.option("--accept-vanished", is_flag=True, help="The documents that are gone from the library are meant to be.")
@library_option
@home_option
@json_option
def command(*, accept_vanished: bool, as_json: bool) -> None:
    """Look at the library once: new, changed and gone documents, then the text of what is new.

    Changes nothing where the library is not there, or where too many documents are gone at once (exit code 2).

    \b
    dagster-offload scan
    dagster-offload scan --library ~/Documents --json
    dagster-offload scan --accept-vanished            I did delete them
    """
    from dagster_offload.cli.console import progress_console
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.cli.run_job import run_job
    from dagster_offload.errors import LibraryMissing
    from dagster_offload.settings import load_settings

    settings = load_settings()
    if settings.library is None:
        raise LibraryMissing("no library: dagster-offload scan --library DIR, or set OFFLOAD_LIBRARY")
    summary = run_job(settings, "scan", ["extract"], progress_console(), accept_vanished=accept_vanished)
    if as_json:
        print_json(summary)
    else:
        _print(summary)


def _print(summary: dict[str, Any]) -> None:
    from dagster_offload.cli.formatting import say

    click.echo(
        f"{summary['found']} documents: {summary['added']} new, {summary['changed']} changed, "
        f"{summary['returned']} back, {summary['vanished']} gone"
    )
    click.echo(f"text taken from {summary['extracted']}, {summary['extraction_failed']} failed")
    for words, names in (
        ("will be tried again", "extraction_to_retry"),
        ("no document", "unusable_names"),
        ("folder not read", "unreadable_folders"),
        ("left out", "folders_left_out"),
    ):
        for name, reason in summary[names].items():
            say(f"{words}: {name}: {reason}")
    if summary["machine_fault"]:
        say(f"documents wait: {summary['machine_fault']}")
    if summary["unreadable"]:
        click.echo(f"{summary['unreadable']} cannot be read; `dagster-offload status` names them")
