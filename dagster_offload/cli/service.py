"""`dagster-offload service install|status|logs|remove`: start `up` at boot, and keep it running."""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dagster_offload.cli import HintingGroup
from dagster_offload.cli.exits import Refusal
from dagster_offload.cli.options import home_option, json_option

if TYPE_CHECKING:
    from pwd import struct_passwd

    from dagster_offload.service.boot.manager import Manager
    from dagster_offload.service.boot.unit import Boot
    from dagster_offload.settings.loading import Loaded

# What the service gets from the environment, beside PATH. Other variables belong into the file .env of the home.
CARRIED = ("OFFLOAD_HOME", "OFFLOAD_CONFIG")


@click.group("service", cls=HintingGroup)
def command() -> None:
    """Start `up` at boot and keep it running, as a service of systemd or launchd.

    \b
    dagster-offload service install
    dagster-offload service status
    dagster-offload service logs --follow
    dagster-offload service remove
    """


@command.command("install")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port of the UI.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the UI listens on.")
@click.option("--run-as", metavar="USER", help="Only for root: the user of the service, who owns the home.")
@click.option("--print", "is_only_shown", is_flag=True, help="Print the file of the service, and change nothing.")
@home_option
@json_option
def install(*, port: int, host: str, run_as: str | None, is_only_shown: bool, as_json: bool) -> None:
    """Install the service of this home and start it. Running it again does no harm.

    A user gets a service of their own; root gets one of the system, which runs as --run-as.

    \b
    dagster-offload service install
    sudo dagster-offload service install --run-as alice --home /home/alice/.local/share/dagster-offload
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.service.boot import manager as boot_manager

    loaded = _read_settings(run_as)
    home = loaded.settings.home
    boot = _boot(loaded, port, host, run_as)
    if is_only_shown:
        click.echo(_shown(boot), nl=False)
        return
    manager = boot_manager.find_manager(home, is_root=_is_root())
    _refuse_to_install(loaded, manager, boot.name, host, port)
    installed = boot_manager.install(manager, boot)
    if as_json:
        print_json(
            {
                "name": boot.name,
                "file": str(installed.file),
                "is_changed": installed.is_changed,
                "notes": installed.notes,
            }
        )
        return
    if not installed.is_changed:
        say(f"Already installed and running: {installed.file}. Nothing was changed.")
        return
    say(f"Installed: {installed.file}\nIt runs now and starts again after a reboot or a crash.")
    for note in installed.notes:
        say(note)
    if left_out := _not_carried():
        say(
            f"The service does not have these variables of this shell: {', '.join(left_out)}. Put them into {home / '.env'}"
        )


def _read_settings(run_as: str | None) -> "Loaded":
    """The settings of the service. Root reads them with the rights of `run_as`, in the home, as the service does.

    Raises `Refusal`, or `SettingsError` as `read_settings` does.
    """
    from dagster_offload.host.acting_as import acting_as
    from dagster_offload.host.python_process import python_command
    from dagster_offload.settings import default_home, read_settings

    if run_as is None:
        return _with_keys(read_settings())
    home = Path(os.environ.get("OFFLOAD_HOME") or default_home()).absolute()
    user = _user_of_service(run_as, home)
    if not home.is_dir():
        raise Refusal(_no_such_home(home))
    os.environ["OFFLOAD_HOME"] = str(home)
    os.chdir(home)
    python = python_command()[0]
    with acting_as(user):
        if not os.access(python, os.X_OK, effective_ids=True):
            raise Refusal(f"{run_as} cannot run {python}: install the program where {run_as} can read it")
        return _with_keys(read_settings())


def _with_keys(loaded: "Loaded") -> "Loaded":
    loaded.settings.slots.require_keys()
    return loaded


def _no_such_home(home: Path) -> str:
    return f"the home {home} does not exist: run dagster-offload up once, or dagster-offload init"


def _refuse_to_install(loaded: "Loaded", manager: "Manager", name: str, host: str, port: int) -> None:
    """Raise `Refusal` if the service could not work with this home or port, or if `up` runs there without it."""
    from dagster_offload.service import ports
    from dagster_offload.service.home import running_up

    home = loaded.settings.home
    if not home.is_dir():
        raise Refusal(_no_such_home(home))
    if not _has_library_without_this_shell(loaded):
        raise Refusal(
            "the pipeline file names no library, and the service has no variables of this shell: run dagster-offload config set "
            "library.path DIR"
        )
    if manager.state(name).pid is not None:
        return
    up = running_up(home)
    if up is not None:
        place, there = ("", "") if up.is_here else (f" of {up.host}", " there")
        raise Refusal(
            f"`up` already runs on {home} (process {up.pid}{place}), and is not the service: stop it{there} with "
            "dagster-offload stop, then install the service"
        )
    if not ports.is_free(host, port):  # the service would fail and start again for ever
        raise Refusal(f"port {port} on {host} is in use: give the service another one with --port")


@command.command("status")
@home_option
@json_option
def status(*, as_json: bool) -> None:
    """Show whether the service of this home is installed and runs.

    \b
    dagster-offload service status
    """
    from dagster_offload.cli.formatting import print_json, say

    manager, name = _installed()
    state = manager.state(name)
    if as_json:
        print_json(asdict(state) | {"file": str(state.file)})
        return
    if not state.is_installed:
        say(f"{name}: not installed; dagster-offload service install")
        return
    running = f", process {state.pid}" if state.pid else ""
    boots = "starts at boot" if state.starts_at_boot else "does not start at boot"
    restarts = f", restarted {state.restarts} times" if state.restarts else ""
    say(f"{name}: {state.state}{running}{restarts}; {boots}\n{state.file}")


@command.command("logs")
@click.option("--lines", "-n", type=click.IntRange(1), default=100, show_default=True, help="How many lines.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C.")
@home_option
def logs(*, lines: int, follow: bool) -> None:
    """Show what the service printed: the lines of `up`.

    \b
    dagster-offload service logs --follow
    """
    manager, name = _installed()
    argv = manager.log_command(name, lines, follow=follow)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - it takes over this terminal
    except FileNotFoundError:
        raise Refusal(f"{argv[0]} is not installed") from None


@command.command("remove")
@home_option
@json_option
def remove(*, as_json: bool) -> None:
    """Stop the service of this home and remove it. The home with all results stays.

    \b
    dagster-offload service remove
    """
    from dagster_offload.cli.formatting import print_json, say
    from dagster_offload.service.boot import manager as boot_manager

    manager, name = _installed()
    file = boot_manager.remove(manager, name)
    if as_json:
        print_json({"name": name, "removed": file is not None})
        return
    say(f"Removed: {file}. The home stays." if file else f"{name} is not installed: nothing was removed")


def _boot(loaded: "Loaded", port: int, host: str, run_as: str | None) -> "Boot":
    """What the service starts. Raises `Refusal`."""
    from dagster_offload.host.python_process import python_command
    from dagster_offload.service.boot.unit import Boot, name_of
    from dagster_offload.settings import default_home

    home = loaded.settings.home
    if _is_root() and run_as is None and sys.platform != "darwin":
        raise Refusal(
            "as root, name the user who owns the documents and the home: --run-as USER. --run-as root works, too: the embedded "
            "Postgres then runs as an unprivileged user"
        )
    environment = {"OFFLOAD_HOME": str(home), "PYTHONUNBUFFERED": "1", "PYTHONSAFEPATH": "1"}
    if loaded.file is not None and loaded.file.parent != home:
        environment["OFFLOAD_CONFIG"] = str(loaded.file)
    if path := _search_path(run_as):
        environment["PATH"] = path
    argv = python_command("-m", "dagster_offload.cli", "up", "--port", str(port), "--host", host)
    return Boot(name_of(home, default_home()), home, argv, environment, run_as)


def _search_path(run_as: str | None) -> str:
    """The PATH of the service."""
    import pwd

    from dagster_offload.service.boot.search_path import search_path

    return search_path(os.environ.get("PATH", ""), None if run_as is None else {0, pwd.getpwnam(run_as).pw_uid})


def _user_of_service(run_as: str, home: Path) -> "struct_passwd":
    """The user with this name, who owns the home. Raises `Refusal`."""
    import pwd

    if not _is_root():
        raise Refusal("--run-as is for root: without it, the service runs as you")
    try:
        user = pwd.getpwnam(run_as)
    except KeyError:
        raise Refusal(f"there is no user {run_as!r} on this machine") from None
    if home.exists() and home.stat().st_uid != user.pw_uid:
        raise Refusal(f"{home} does not belong to {run_as}: name the home with --home, or chown it")
    return user


def _shown(boot: "Boot") -> str:
    from dagster_offload.service.boot.unit import launchd_plist, systemd_unit

    return launchd_plist(boot, boot.home / "logs" / "service.log") if sys.platform == "darwin" else systemd_unit(boot)


def _installed() -> "tuple[Manager, str]":
    """The service manager, and the name of this home's service. A broken pipeline file does not matter."""
    from dagster_offload.errors import SettingsError
    from dagster_offload.service.boot.manager import find_manager
    from dagster_offload.service.boot.unit import name_of
    from dagster_offload.settings import default_home, load_settings
    from dagster_offload.settings.loading import find_home

    try:
        home = load_settings().home
    except SettingsError:
        home = find_home()
    return find_manager(home, is_root=_is_root()), name_of(home, default_home())


def _has_library_without_this_shell(loaded: "Loaded") -> bool:
    """Whether the library is in the pipeline file, or in the file .env of the home, where the service runs."""
    from dagster_offload.settings.leaves import BY_KEY

    origin = loaded.origin(BY_KEY[("library", "path")])
    return origin.kind == "file" or (origin.kind == ".env" and Path.cwd() == loaded.settings.home)


def _not_carried() -> list[str]:
    from dagster_offload.settings.leaves import VARIABLES

    return sorted(name for name in os.environ if name in VARIABLES and name not in CARRIED)


def _is_root() -> bool:
    return os.geteuid() == 0
