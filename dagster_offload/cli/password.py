"""`dagster-offload password`: write the password file of the UI."""

import shlex
import sys
from pathlib import Path

import click

from dagster_offload.cli.options import TypedPath, home_option, json_option


@click.command("password")
@click.option(
    "--file",
    "path",
    type=TypedPath(dir_okay=False),
    help="The file to write. Default: ui-password in OFFLOAD_HOME.",
)
@home_option
@json_option
def command(*, path: Path | None, as_json: bool) -> None:
    """Write the password file of the UI, which has only a hash of the password.

    Asks for the password twice, or reads one line if standard input is not a terminal. Then set OFFLOAD_UI_PASSWORD_FILE
    and start `up` again: the UI asks for the password. A UI that uses this file already takes the new password at once,
    and everyone who was logged in must log in again.

    \b
    dagster-offload password
    dagster-offload password --file /etc/offload-ui-password < secret.txt
    """
    from dagster_offload.cli.formatting import print_json
    from dagster_offload.postgres import prepare_home
    from dagster_offload.service.ui.passwords import hash_password, write_password_file
    from dagster_offload.settings import load_settings

    settings = load_settings()
    home = settings.home
    if path is None:
        prepare_home(home)
    file = (home / "ui-password") if path is None else path.expanduser().absolute()
    write_password_file(file, hash_password(_ask()))
    if as_json:
        print_json({"file": str(file), "variable": "OFFLOAD_UI_PASSWORD_FILE"})
        return
    if settings.ui.password_file == file:
        click.echo(f"Wrote {file}. The UI asks for the new password from now on.")
        return
    click.echo(f"Wrote {file}. Set this variable, then start `dagster-offload up` again:")
    click.echo(f"  export OFFLOAD_UI_PASSWORD_FILE={shlex.quote(str(file))}")


def _ask() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password for the UI", hide_input=True, confirmation_prompt=True)
    return password
