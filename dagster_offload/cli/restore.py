"""`dagster-offload restore`: put a backup into a new or empty home, or into your own Postgres."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.options import TypedPath, home_option, json_option

if TYPE_CHECKING:
    from dagster_offload.settings import Settings


@click.command("restore")
@click.argument("file", type=TypedPath())
@click.option("--replace", is_flag=True, help="Delete the ledger that is there, if it has data.")
@home_option
@json_option
def command(*, file: Path, replace: bool, as_json: bool) -> None:
    """Put the backup FILE into the ledger of this home, or into the Postgres of OFFLOAD_POSTGRES_URL.

    FILE is checked completely before anything changes, and then everything is restored, or nothing is. A ledger that
    has data is refused, and so is a backup of a newer version. Use only one copy from then on: two that run at the same
    time would repeat each other's calls.

    Exit codes: 0 = restored; 2 = refused (nothing has changed).

    \b
    dagster-offload restore /mnt/disk/offload.backup
    dagster-offload restore --home /srv/offload /mnt/disk/offload.backup
    dagster-offload restore --replace /mnt/disk/offload.backup      delete the ledger that is there
    """
    from dagster_offload.cli.backup import contents, describe
    from dagster_offload.cli.console import showing_rows
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.errors import BackupError
    from dagster_offload.ledger.archive.file import open_archive
    from dagster_offload.ledger.archive.restore import restore, why_too_new
    from dagster_offload.ledger.core.migrate import newest_step
    from dagster_offload.ledger.core.opening import reach_ledger
    from dagster_offload.postgres import DAGSTER_SCHEMA
    from dagster_offload.service.home import hold_up_lock
    from dagster_offload.settings import read_settings

    loaded = read_settings()
    settings = loaded.settings
    file = Path(file.expanduser()).absolute()
    with open_archive(file) as archive:
        manifest = archive.manifest
        if (reason := why_too_new(manifest.step, newest_step())) is not None:
            raise BackupError(f"cannot restore {file}: {reason}")
        with showing_rows("checking") as on_progress:
            archive.check(on_progress)
        with hold_up_lock(settings.home), reach_ledger(settings) as ledger:
            if manifest.has_dagster:
                from dagster_offload.defs.instance import create_tables

                create_tables(ledger.conninfo)
            with showing_rows("restoring") as on_progress:
                restore(
                    ledger,
                    archive,
                    dagster_schema=DAGSTER_SCHEMA,
                    may_replace=replace,
                    on_progress=on_progress,
                )
            if manifest.has_dagster:
                _end_runs(settings)
    if as_json:
        print_json({"file": str(file), "with_dagster": manifest.has_dagster, **contents(manifest)})
    else:
        say(f"restored {describe(manifest)} (as of {manifest.created_at:%Y-%m-%d %H:%M} UTC)")
        say("`dagster-offload up` continues from there. From now on, do not run the ledger that the backup came from.")
        if loaded.file is None:
            say(
                f"The backup has no pipeline file: copy your offload.yaml to {settings.home} before you start `up`. Without it, "
                "the library, the slots and stages of your own are not known."
            )


def _end_runs(settings: "Settings") -> None:
    """End the runs that were in progress in the backup: they hold Dagster's limits, and no process works on them."""
    from dagster_offload.defs.dead_runs import sweep
    from dagster_offload.defs.events import EventReporter
    from dagster_offload.defs.instance import open_instance
    from dagster_offload.defs.names import names_of
    from dagster_offload.ledger.core import stages
    from dagster_offload.ledger.core.opening import open_ledger_as_it_is

    with open_ledger_as_it_is(settings) as ledger, open_instance(settings) as instance:
        names = names_of(ledger.run(stages.graph))  # those of the backup: the pipeline file may not be there yet
        sweep(EventReporter(instance, ledger, names, settings), was_restored=True)
