"""`dagster-offload move`: move the ledger from the embedded Postgres to your own, and back."""

import sys
from typing import TYPE_CHECKING

import click

from dagster_offload.cli.options import home_option, json_option
from dagster_offload.text.counts import counted

if TYPE_CHECKING:
    from dagster_offload.settings import Settings

EMBEDDED_WORD = "embedded"


@click.command("move")
@click.option(
    "--to",
    "to",
    metavar="URL|embedded|-",
    help="The new place: postgresql://USER@HOST/DATABASE, `embedded`, or - to read a URL from standard input.",
)
@click.option("--replace", is_flag=True, help="Delete the ledger that is at the new place, if it has data.")
@click.option("--undo", is_flag=True, help="Use the old copy again, because the new one is lost.")
@home_option
@json_option
def command(*, to: str | None, replace: bool, undo: bool, as_json: bool) -> None:
    """Move the ledger and Dagster's storages to another Postgres. No call is repeated.

    The ledger of the current settings is the source. Stop `up` and all drains first. Afterwards the command names the
    setting to change. The old copy is kept, and every command refuses to use it.

    Every user of this machine can read the options of a command. For a URL with a password, use --to - and enter it, or
    keep the password in ~/.pgpass.

    Exit codes: 0 = moved; 2 = refused (nothing has changed).

    \b
    dagster-offload move --to postgresql://offload@db.local/offload
    dagster-offload move --to - < url.txt             a URL with a password
    OFFLOAD_POSTGRES_URL=postgresql://offload@db.local/offload dagster-offload move --to embedded
    dagster-offload move --undo                       the new copy is lost: use the old one again
    """
    from dagster_offload.ledger.core.opening import refuse_empty_home
    from dagster_offload.service.home import hold_up_lock
    from dagster_offload.settings import load_settings

    if undo == (to is not None):
        raise click.UsageError("choose one: --to or --undo")
    settings = load_settings()
    target = None if to is None else _target(settings, to)
    refuse_empty_home(settings)  # before the lock, which would create the home
    with hold_up_lock(settings.home):
        if target is None:
            _undo(settings, as_json=as_json)
        else:
            _move(settings, target, replace=replace, as_json=as_json)


def _move(settings: "Settings", target: "Settings", *, replace: bool, as_json: bool) -> None:
    from dagster_offload.cli.console import showing_rows
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.defs.instance import create_tables
    from dagster_offload.ledger.archive.move import move
    from dagster_offload.ledger.core.identity import EMBEDDED, setting_for
    from dagster_offload.ledger.core.opening import open_ledger, reach_ledger
    from dagster_offload.postgres import DAGSTER_SCHEMA, shown_url

    with open_ledger(settings) as source, reach_ledger(target) as destination:
        place = f"{EMBEDDED} of {target.home}" if target.postgres_url is None else shown_url(destination.conninfo)
        create_tables(destination.conninfo)
        with showing_rows("moving") as on_progress:
            rows = move(
                source,
                destination,
                place=place,
                dagster_schema=DAGSTER_SCHEMA,
                may_replace=replace,
                on_progress=on_progress,
            )
    setting = setting_for(place)
    documents, results = rows["ledger.documents"], rows["ledger.results"]
    if as_json:
        print_json({"place": place, "documents": documents, "results": results, "next": setting})
        return
    say(f"moved {counted(documents, 'document')}, {counted(results, 'result')} and Dagster's storages to {place}")
    say(f"Now {setting}, in the environment or in .env. Then run `dagster-offload up`.")
    say("The old copy is kept, but commands no longer use it.")


def _undo(settings: "Settings", *, as_json: bool) -> None:
    from dagster_offload.cli.exits import Refusal
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.ledger.core import identity
    from dagster_offload.ledger.core.migrate import current_step
    from dagster_offload.ledger.core.opening import reach_ledger

    with reach_ledger(settings) as ledger:
        with ledger.transaction() as cur:  # not `run`: an empty database has no table for receipts
            was_moved = current_step(cur, ledger.schema) is not None and identity.unmark_moved(cur)
        if not was_moved:
            raise Refusal("the ledger of these settings was not moved: nothing to undo")
    if as_json:
        print_json({"undone": True})
    else:
        click.echo("This copy is in use again. From now on, do not use the other copy.")


def _target(settings: "Settings", to: str) -> "Settings":
    """The settings of the new place."""
    from pydantic import SecretStr

    from dagster_offload.cli.exits import Refusal

    if to == EMBEDDED_WORD:
        if settings.postgres_url is None:
            raise Refusal("OFFLOAD_POSTGRES_URL is not set: the ledger is in the embedded Postgres already")
        return settings.model_copy(update={"postgres_url": None})
    url = _read_url() if to == "-" else to
    if to != "-" and _has_password(url):
        raise click.BadParameter(
            "the URL must not contain a password, because every user of this machine can read the options of a command: "
            "use --to - and enter the URL, or put the password into ~/.pgpass",
            param_hint="--to",
        )
    return settings.model_copy(update={"postgres_url": SecretStr(url)})


def _read_url() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("URL of the new Postgres", hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()


def _has_password(url: str) -> bool:
    from dagster_offload.postgres.external import normalised
    from dagster_offload.postgres.urls import password_of

    return password_of(normalised(url)) is not None
