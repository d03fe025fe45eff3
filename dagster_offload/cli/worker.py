"""`dagster-offload worker`: check this host, then become a Celery worker that takes steps of the job `extract`."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.exits import ExitCode
from dagster_offload.cli.options import home_option, json_option, library_option

if TYPE_CHECKING:
    from dagster_offload.engine.extraction.host import HostCheck
    from dagster_offload.settings import Settings


@click.command("worker")
@click.option("--check", "only_check", is_flag=True, help="Only check this host; start nothing.")
@library_option
@home_option
@json_option
def command(*, only_check: bool, as_json: bool) -> None:
    """Take part in the job `extract` from this host: check the host, then start Dagster's Celery worker.

    Checks that Celery and its broker are there, that Postgres is shared, and that the version, the pipeline, the library and OCR
    are those of the running `up`. The worker runs until Ctrl-C, SIGTERM or the end of its terminal; its unfinished documents
    are due again then.

    Exit codes: 0 = the worker was stopped, or `--check` found nothing wrong; 2 = a check failed, and the line names what to
    change.

    \b
    dagster-offload worker --check
    dagster-offload worker --library /mnt/documents
    OFFLOAD_CELERY_BROKER=redis://box:6379/0 OFFLOAD_POSTGRES_URL=postgresql://me@box/offload dagster-offload worker
    """
    from dagster_offload.cli.formatting import print_check, print_json
    from dagster_offload.settings import load_settings

    if as_json and not only_check:
        raise click.UsageError("--json prints the result of the checks: use it with --check")
    checks = []
    for check in _check(load_settings()):
        checks.append(check)
        if not as_json:
            print_check(check.name, check.found, is_ok=check.ok, width=10)
    is_fit = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": is_fit, "checks": [asdict(check) for check in checks]})
    if not is_fit:
        if not as_json:
            click.echo("This host takes no documents until the lines marked `no` are fixed.", err=True)
        raise click.exceptions.Exit(ExitCode.REFUSED)
    if not only_check:
        _become_worker()


def _check(settings: "Settings") -> "Iterator[HostCheck]":
    """Check one thing after the other. Ends at the first that the others need."""
    from dagster_offload.defs.execution.celery import check_broker
    from dagster_offload.engine.extraction.host import HostCheck, check_host, check_ocr
    from dagster_offload.errors import OffloadError
    from dagster_offload.ledger.core.opening import reach_ledger
    from dagster_offload.postgres.external import ADVICE_IF_EXPOSED, why_exposed

    broker = check_broker(settings)
    yield broker
    if not broker.ok:
        return
    if settings.postgres_url is None:
        embedded = "the embedded Postgres serves one host only: set OFFLOAD_POSTGRES_URL to the database of `up`"
        yield HostCheck("Postgres", False, f"{embedded} (docs/several-hosts.md)")
        return
    try:
        with reach_ledger(settings) as ledger:
            with ledger.connect() as connection:
                exposed = why_exposed(connection)
            warning = "" if exposed is None else f"; {exposed}. {ADVICE_IF_EXPOSED}"
            yield HostCheck("Postgres", True, f"shared, and it keeps sessions{warning}")
            yield from check_host(settings, ledger)
    except OffloadError as error:
        yield HostCheck("Postgres", False, str(error))
        return
    yield check_ocr(settings)


def _become_worker() -> None:
    """Replace this process with Celery, so that signals reach it and no parent is left to be killed."""
    from dagster_offload.defs.execution.celery import worker_command
    from dagster_offload.host.python_process import python_command, python_environment

    # A second meaning of SIGTERM in Celery: end soon, instead of waiting for a step that may take days.
    environment = {**python_environment(), "REMAP_SIGTERM": "SIGQUIT"}
    click.echo("Starting Celery. Ctrl-C ends the worker.", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    command = python_command(*worker_command())
    os.execve(command[0], command, environment)  # noqa: S606 - our own Python
