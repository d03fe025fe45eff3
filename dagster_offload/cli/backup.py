"""`dagster-offload backup`: write the ledger to one file while everything runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.in_force import read_in_force
from dagster_offload.cli.options import TypedPath, home_option, json_option
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.ledger.archive.file import Manifest


@click.command("backup")
@click.argument("file", type=TypedPath())
@click.option("--with-dagster", is_flag=True, help="Include Dagster's runs, events and schedules.")
@home_option
@json_option
def command(*, file: Path, with_dagster: bool, as_json: bool) -> None:
    """Write the ledger to FILE: all documents' states, texts and answers, as they are at one moment.

    Everything may keep running. FILE appears when it is complete, and only you can read it. Your documents themselves
    are not in it. Without --with-dagster, a restored ledger reports its results to Dagster again.

    Exit codes: 0 = written; 2 = refused, or it cannot be written (nothing is left of it).

    \b
    dagster-offload backup /mnt/disk/offload.backup
    dagster-offload backup --with-dagster /mnt/disk/offload.backup
    dagster-offload backup /mnt/disk/offload.backup --json | jq .bytes
    """
    from dagster_offload.cli.console import showing_rows
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.ledger.archive.backup import write_backup
    from dagster_offload.ledger.archive.folder import refuse_library
    from dagster_offload.ledger.core.opening import reach_ledger, refuse_empty_home

    settings = read_in_force().settings
    file = Path(file.expanduser()).absolute()
    refuse_library(file, settings.library)
    refuse_empty_home(settings)
    with reach_ledger(settings) as ledger, showing_rows("writing") as on_progress:
        manifest = write_backup(ledger, file, dagster_schema=_schema(with_dagster), on_progress=on_progress)
    if as_json:
        print_json(
            {"file": str(file), "bytes": file.stat().st_size, "with_dagster": with_dagster, **contents(manifest)}
        )
    else:
        say(f"{file}: {describe(manifest)}, {file.stat().st_size:,} bytes")


def _schema(with_dagster: bool) -> str | None:
    from dagster_offload.postgres import DAGSTER_SCHEMA

    return DAGSTER_SCHEMA if with_dagster else None


def contents(manifest: "Manifest") -> dict[str, object]:
    """What a backup contains, for `--json`."""
    return {
        "created_at": manifest.created_at,
        "version": manifest.version,
        "step": manifest.step,
        "documents": manifest.rows("documents"),
        "results": manifest.rows("results"),
    }


def describe(manifest: "Manifest") -> str:
    """What a backup contains, for people."""
    dagster = ", with Dagster's storages" if manifest.has_dagster else ""
    documents = f"{counted(manifest.rows('documents'), 'document')} (with those that are gone)"
    return f"{documents}, {counted(manifest.rows('results'), 'result')}{dagster}"
